"""The compiler: expression -> chain -> plan -> kernel source -> callable.

Importing it imports neither Triton nor any generated code; those come with the first use.
"""

from structmat.lowering.compiled import Compiled, compile
from structmat.lowering.pipeline import PASSES, Pass
from structmat.lowering.plan import Plan
from structmat.lowering.portable import PlanError
from structmat.lowering.verify import SpecError

__all__ = ["PASSES", "Compiled", "Pass", "Plan", "PlanError", "SpecError", "compile"]
