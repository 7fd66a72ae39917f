"""A stage of DVC that leaves a process that stands by, without the imports of TensorFlow, and one that asks it.

DVC_STAGE=train python standing_by.py leave
DVC_STAGE=evaluate python standing_by.py evaluate --params params.yaml
"""

import sys
import types

from keras_pipeline.cli import main
from keras_pipeline.standby import address, server

if sys.argv[1:] == ["leave"]:
    sys.modules["keras_pipeline.runs.forkserver"] = types.ModuleType("nothing to import")
    server.leave(address.address())
else:
    chosen = main.make_parser().parse_args()
    code = main._served(chosen)
    sys.exit("nobody stands by" if code is None else code)
