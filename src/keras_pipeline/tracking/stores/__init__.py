"""Stores of MLflow's before MLflow is asked: their addresses, whether they answer, what they are, where they belong.

Open first: `address`, then `connection`.
"""
