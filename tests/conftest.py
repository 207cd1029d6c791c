"""Generated modules have a folder of their own and are checked; random tests draw the same."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings
from hypothesis.internal.conjecture import providers

os.environ["STRUCTMAT_CACHE"] = tempfile.mkdtemp(prefix="structmat-tests-")
os.environ["STRUCTMAT_VERIFY"] = "1"

# hypothesis mixes constants of the local modules that happen to be imported into its draws, so that
# a derandomised test would depend on which tests ran before it in the same process.
if hasattr(providers, "is_local_module_file"):
    providers.is_local_module_file = lambda path: False

# What passed once passes again; `pytest --hypothesis-profile=random` looks for what never failed.
settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile("same")
