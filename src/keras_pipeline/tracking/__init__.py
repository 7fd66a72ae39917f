"""MLflow: the only package that knows it. Files are the truth; what is written here mirrors them.

database.py the database, made whole and known for what it is; store.py where it is, how to reach it, the prepared
table; runs.py one run: its tags, metrics and model; live.py what `train` reports while it trains; mirror.py what
`track` brings in line; lookup.py a recorded run, found; members.py the runs of a study; ui.py the page.
"""
