"""Dense -> structure: the nearest operator of a family, with its error and a certificate."""

from structmat.projection.core import Certificate, Projection, project
from structmat.projection.families import project_block_diagonal, project_low_rank
from structmat.projection.monarch import project_monarch
from structmat.projection.sparse import project_block_sparse, project_sparse

__all__ = [
    "Certificate",
    "Projection",
    "project",
    "project_block_diagonal",
    "project_block_sparse",
    "project_low_rank",
    "project_monarch",
    "project_sparse",
]
