"""Networks: the architectures, the framework that computes them, and the file that keeps one.

Does not know how they are trained. Open first: `architectures`.
"""
