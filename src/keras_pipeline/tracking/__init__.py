"""MLflow: the only package that knows it. Files are the truth; what is written there mirrors them.

Never imports training. Open first: `runs`; `live_run` while a network trains, `mirror` afterwards.
"""
