"""keras-pipeline: an experiment pipeline for Keras that can be trusted.

Verbs are run, nouns are imported, and imports point one way: commands → stages → nouns → params.

commands.py                the command line: runs one verb, maps faults to exit codes; command_parser.py is what can be
                           typed, verbs.py and verbs_of_many.py read the params and call one stage
stages/                    fetch, normalize, train, evaluate, track: read files, call nouns, write files
params.py                  params.yaml as typed values; layers.py and optimizers.py are its parts
strict_yaml.py             one YAML file against a schema: every fault with line, column and key; of it
                           yaml_text.py, yaml_nodes.py, yaml_scalars.py read strictly, schema_faults.py
                           and schema_words.py say what the schema refuses
datasets.py, download.py   which images or tables, from where; idx.py and table.py are their formats
tasks.py                   classes, one class against the rest, or a number: what each allows, and its metrics' names
preprocessing.py           the split, the scaling, the arrays on disk
architectures.py, model_file.py       the network, its file
strategies.py, distribution.py        the devices: one row and one function per strategy; backends.py starts
                           the framework, replicas_tensorflow.py and replicas_torch.py are its replicas
training.py, preparation.py           what a training is made of; made ready, with every check before it;
                           epoch_metrics.py is what is told of an epoch
fitting.py                 the fit, watched step by step: epoch_lines.py is what a user sees of it, training_state.py
                           every number of it, observer.py whoever looks on
from_scratch.py, numpy_engine.py, engines.py      the network written out in NumPy, to read; the fit with it; its limits
checkpoints.py, record.py, signals.py what an interrupted training goes on from; models/run.json; requests to end
clusters.py, roll_call.py, workers.py   several processes: who they are, whether all are there, their launcher
reports.py                 what is reported of a network, a function a task: from metrics.py, binary_metrics.py and
                           regression_metrics.py, figures.py and task_figures.py
studies.py, searches.py    many runs with one question, or in search of the best values: their files; study_folders.py,
                           study_processes.py where those runs are and what does them, forked from preloaded.py;
                           trials.py Optuna's trials, answer.py, comparison.py what came of it, study_report.py,
                           study_figures.py, search_report.py, search_figures.py, page.py for people
provenance.py              digests, versions, git: what a run was made of
conformance.py, conformance_work.py, verdicts.py, determinism.py  is every strategy one device's training, and
                           is a training repeated the same bytes: tables for docs/
certify.py, differences.py, repetition.py, git.py  can a recorded run be repeated
found_run.py, pair.py, pair_report.py      two runs, wherever they are: what differs, and is it more than chance
page.py, templates/        a page for people, as Markdown and as one HTML file
tracking/                  everything that knows MLflow
status.py, doctor.py       what stands here, and what this machine has
errors.py, files.py        what can go wrong; files that are complete or invisible
"""
