"""A process that stands by for the next stages of DVC, with all that they import imported.

Half the time of a short `dvc exp run` is importing the same libraries again in each stage. So `train` leaves a fork of
itself, taken before TensorFlow looks for devices or starts a thread. It listens under a name that is a digest of all
that could make a difference: the user, the environment, the limits, Python, what is installed, and the code. Who comes
with another one of these finds nobody, and imports for itself. Each stage that DVC runs is done by a fork of it, in the
place of the one that asks: in its folder, with its outputs, its requests to end, and its exit code.

It ends when nobody asked for two minutes, or when the code has changed. KERAS_PIPELINE_STANDBY=off: there is none.
Open first: `server`, then `client`; both know the `address`.
"""
