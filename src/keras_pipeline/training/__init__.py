"""A training: its batches, its network made ready, the fit step by step, and the checkpoints that it goes on from.

Never imports tracking: an observer enters as an argument. Open first: `training`, then `fit`.
"""
