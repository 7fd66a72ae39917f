"""What may be wrong with a dataset, a module each: what is looked for, and how.

Open first: `duplicates`.
"""
