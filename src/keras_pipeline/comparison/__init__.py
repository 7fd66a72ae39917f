"""Two runs held against each other, wherever they are, with statistics; and pages for people.

Trains nothing. Open first: `two_runs`.
"""
