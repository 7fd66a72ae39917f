"""Ways to compute the steps of a fit beside Keras' own: many steps as one program or one call, and NumPy, to be read.

Open first: `fused`; to learn, `from_scratch`.
"""
