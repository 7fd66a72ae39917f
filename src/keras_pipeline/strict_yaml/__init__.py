"""One YAML file against one pydantic schema: a typed value, or every fault with line, column and key.

Knows nothing of this project but how its faults are raised; no stage depends on it, since DVC follows the values
themselves. Open first: `reader`.
"""
