"""What params.yaml may say: its blocks as frozen, typed values; the tables of datasets, tasks, layers and optimizers.

Imports no framework and no NumPy. Which values go together is said in `checks`. Open first: `params`.
"""
