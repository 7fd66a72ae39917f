"""A dataset looked at before anything is learnt from it: what its files are, what is wrong with them, and a page.

Imports no framework. Open first: `check`.
"""
