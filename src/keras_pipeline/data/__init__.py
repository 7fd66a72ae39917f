"""Raw data to what a network is fed: the split, the scaling, the arrays on disk, and what is to be learned from them.

Knows neither params nor a framework. Open first: `splits`.
"""
