"""What the kind `images` is made of: where pictures are, what they are of, and how many of them are decoded.

Open first: `folders`.
"""
