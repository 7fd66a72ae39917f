"""What a run was made of, and what is kept of it: models/run.json, git and digests, and who looks on.

Never imports a framework. Open first: `record`.
"""
