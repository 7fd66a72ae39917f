"""The project from within Python: for notebooks and scripts. Open first: `project`."""
