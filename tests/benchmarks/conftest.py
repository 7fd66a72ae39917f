"""Lets tests import the benchmarks by their plain names."""

import sys

from places import ROOT

sys.path.append(str(ROOT / "benchmarks"))
