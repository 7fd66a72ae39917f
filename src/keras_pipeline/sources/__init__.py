"""Where raw data come from: downloads, and datasets made here; the files that they come in.

Imports no framework. Open first: `download`.
"""
