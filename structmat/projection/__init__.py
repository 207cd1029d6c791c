"""Dense -> structure: the nearest operator of a family, with its error and a certificate."""

from structmat.projection.core import Certificate, Projection, project
from structmat.projection.families import project_block_diagonal, project_low_rank
from structmat.projection.monarch import project_monarch

__all__ = [
    "Certificate",
    "Projection",
    "project",
    "project_block_diagonal",
    "project_low_rank",
    "project_monarch",
]
