"""The network in other formats, raw inputs in, each shown to agree with the evaluated one.

Open first: `manifest`.
"""
