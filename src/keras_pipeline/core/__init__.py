"""What every package needs: faults with their exit codes, files that are complete or invisible and hold what they must,
this process.

Imports no other package of ours, and no library that takes a moment. Open first: `errors`, `files`.
"""
