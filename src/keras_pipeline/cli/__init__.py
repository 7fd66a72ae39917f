"""The command line: a module for each group of verbs, with its parser. Holds no logic. Open first: `main`."""
