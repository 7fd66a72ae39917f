"""The runs of a study in MLflow: children of one run, which holds the question and the answer."""

from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock

from keras_pipeline.studies import Member
from keras_pipeline.tracking.store import Location, Store, connect

STUDY = "pipeline.study"


def experiment(base: str, study: str) -> str:
    """MLflow's experiment of a study: one of its own, so that its table and charts hold nothing else."""
    return f"{base} study {study}"


def member_tags(store: Store, member: Member) -> dict[str, str]:
    """What makes a run the child of its study's run, which is created where it is missing."""
    tags = {
        "mlflow.parentRunId": _parent(store, member.study, member.question),
        "study": member.study,
        "variant": member.variant,
        "seed": str(member.seed),
    }
    return tags | ({"tuned": member.tuned} if member.tuned else {})


def log_answer(
    where: Location, experiment: str, study: str, question: str, note: str, metrics: Mapping[str, float], folder: Path
) -> None:
    """Keep the study's report, all of `folder`, with its run; raises whatever MLflow does."""
    store = connect(where, experiment)
    run_id = _parent(store, study, question)
    store.client.set_tag(run_id, "mlflow.note.content", note)
    for name, value in metrics.items():
        store.client.log_metric(run_id, name, value)
    store.client.log_artifacts(run_id, str(folder), "report")
    store.client.set_terminated(run_id, "FINISHED")


def _parent(store: Store, study: str, question: str) -> str:
    with FileLock(store.location.state / ".studies.lock", timeout=60):  # several runs may end at once
        found = store.client.search_runs([store.experiment], f"tags.`{STUDY}` = '{study}'", max_results=1)
        if found:
            run_id: str = found[0].info.run_id
            return run_id
        tags = {STUDY: study, "study": study, "mlflow.note.content": question, "mlflow.source.name": "study run"}
        created = store.client.create_run(store.experiment, tags=tags, run_name=f"study {study}")
        return str(created.info.run_id)
