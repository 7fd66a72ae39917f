"""HTTP for a service that strangers reach: limits on bytes and time, and who may ask.

Open first: `guard`, `protocol`.
"""
