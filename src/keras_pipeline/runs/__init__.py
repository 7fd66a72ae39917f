"""The runs of studies and searches: where they are, what is known of them, and the processes that do them.

Does not know why a run is done. Open first: `pool`, then `executor`, which starts the process of a run: this command
line again, which calls `run_steps`.
"""
