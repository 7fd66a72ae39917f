"""params.yaml read and checked as a whole. No stage depends on it: an edit of a message here runs nothing again.

Imports no framework. Open first: `params`.
"""
