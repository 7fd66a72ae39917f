"""The fixtures of the stories."""

from pipeline_workspaces import finished, first_repro, source, workspace  # noqa: F401
