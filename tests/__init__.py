"""Tests of the package, in its layout."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the Makefile, and before anything imports torch
ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared/realdata"  # inputs of real benchmarks, where a developer has them; else those tests skip
