"""A model of MLflow's registry, served and followed: MLflow is asked by a process beside the service.

Open first: `following`; `champion` is that process.
"""
