"""What the proofs have in common: real workspaces in which the pipeline has run."""

from pipeline_workspaces import finished, first_repro, source, workspace  # noqa: F401
