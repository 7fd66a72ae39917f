"""Where this checkout and its programs are."""

import sysconfig
from pathlib import Path

SUPPORT = Path(__file__).parent
"""The folder of this file, whose modules tests import by their plain names."""
ROOT = SUPPORT.parents[1]
SHIPPED = ROOT / "params.yaml"
PROGRAM = Path(sysconfig.get_path("scripts")) / "keras-pipeline"
"""The installed command line."""
