"""Searches: the best values of some params, sought with many runs within a budget. Open first: `search`."""
