"""Can what was said be trusted: a recorded run trained again, strategies against one device, bytes against bytes.

Open first: `certify`.
"""
