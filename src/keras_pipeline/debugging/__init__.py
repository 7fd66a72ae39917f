"""Quick trainings that answer one question each, in a folder of their own. Open first: `modes`."""
