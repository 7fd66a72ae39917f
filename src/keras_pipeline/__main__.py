"""`python -m keras_pipeline` is `keras-pipeline`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("keras_pipeline.cli.main", run_name="__main__", alter_sys=True)
