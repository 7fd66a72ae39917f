"""keras-pipeline: an experiment pipeline for Keras that can be trusted.

Verbs are run, nouns are imported, and imports point one way: commands → stages → nouns → params.

commands.py                the command line: reads params, calls one stage, maps faults to exit codes
stages/                    fetch, normalize, train, evaluate, track: read files, call nouns, write files
params.py                  params.yaml as typed values; layers.py and optimizers.py are its parts
strict_yaml.py             one YAML file against a schema: every fault with line, column and key; of it
                           yaml_text.py, yaml_nodes.py, yaml_scalars.py read strictly, schema_faults.py
                           and schema_words.py say what the schema refuses
datasets.py, download.py, idx.py      which images, from where, in which format
preprocessing.py           the split, the scaling, the arrays on disk
architectures.py, strategies.py, training.py, model_file.py     the network, its devices, its fit, its file
metrics.py, figures.py     predictions to numbers, numbers to pictures
provenance.py              digests, versions, git: what a run was made of
tracking/                  everything that knows MLflow
status.py, doctor.py       what stands here, and what this machine has
errors.py, files.py        what can go wrong; files that are complete or invisible
"""
