"""Where a network trains: strategies, their devices and replicas, and the workers of several processes.

Does not know what is trained. Open first: `strategies`.
"""
