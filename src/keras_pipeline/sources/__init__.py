"""Where raw data come from: a dataset's file, its data of any kind, and the one form that all stages read them in.

Imports no framework. Open first: `dataset_file`, then `raw`.
"""
