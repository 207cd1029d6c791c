"""Generated modules of the tests go to a folder of their own."""

from __future__ import annotations

import os
import tempfile

os.environ["STRUCTMAT_CACHE"] = tempfile.mkdtemp(prefix="structmat-tests-")
