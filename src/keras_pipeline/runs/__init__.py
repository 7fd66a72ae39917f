"""The runs of studies and searches: where they are, what is known of them, and the processes that do them.

Does not know why a run is done. Open first: `run_steps`, what such a process does; `executor` starts it.
"""
