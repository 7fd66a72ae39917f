"""MLflow: the only package that knows it. Files are the truth; what is written here mirrors them.

store.py where the database is, how to reach it, the prepared table; runs.py one run: its tags, metrics and
model; live.py what `train` reports while it trains; mirror.py what `track` brings in line; ui.py the page.
"""
