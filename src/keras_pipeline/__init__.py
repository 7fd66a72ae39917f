"""keras-pipeline: an experiment pipeline for Keras that can be trusted. Imports point down this list only.

notebook      the project from within Python: `from keras_pipeline import Project`
cli           the command line, a module for each group of verbs
prediction    what a trained network says of new pictures, arrays or rows
serving       the prediction service and its page; without TensorFlow, Keras and MLflow
standby       a process that has imported what the next stages of DVC need
searches      the best values of some params, sought with many runs
studies       one question asked with many runs
runs          the runs of both: where they are, and the processes that do them
stages        what DVC calls: scan, fetch, normalize, train, evaluate, export, track. Read first: stages/train.py
debugging     quick trainings that answer one question
audit         can a recorded run be repeated, does every strategy train what one device does
registry      versions of models in MLflow's registry, aliases, the journal, the model card
tracking      MLflow, alone
comparison    two runs held against each other: statistics and pages
training      batches, fit, checkpoints. Read second: training/training.py
inspection    a dataset recognized, checked, and shown on a page
export        the network in other formats, each shown to agree with the evaluated one
checks        params.yaml read and checked as a whole
records       what a run was made of: models/run.json, digests, versions
distribution  strategies, devices, workers
sources       what a dataset is: its file, its data of any kind, and the one form in which stages read them
models        architectures, frameworks, the model file
evaluation    predictions to numbers, tables and figures
config        what params.yaml may say, and the tables of names
data          the split, the scaling, the arrays on disk
strict_yaml   one YAML file against one schema
core          errors, files, this process
"""


def __getattr__(name: str) -> object:
    """`Project`, imported when it is asked for: no stage needs it."""
    if name != "Project":
        raise AttributeError(f"module 'keras_pipeline' has no attribute {name!r}")
    from keras_pipeline.notebook.project import Project

    return Project
