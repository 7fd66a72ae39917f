"""The kinds of datasets, a module each: what a dataset file of it says, and how its files are read. Imports nothing of
this package but core, strict_yaml and `sources`.

Open first: `kind`, then `idx`.
"""
