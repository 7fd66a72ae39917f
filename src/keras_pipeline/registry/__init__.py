"""Versions of models in MLflow's registry, by alias: which is the champion, since when, and by whose decision.

Open first: `promotion`; `versions` reads and registers, `journal` keeps what MLflow forgets, `card` tells of a model.
"""
