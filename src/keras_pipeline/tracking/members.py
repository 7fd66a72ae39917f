"""The runs of a study or a search in MLflow: children of one run, which holds the question and the answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from keras_pipeline.studies import Member
from keras_pipeline.tracking.store import Location, Store, connect


def experiment(base: str, kind: str, name: str) -> str:
    """MLflow's experiment of a study or search, `kind`: one of its own, so that its table and charts hold nothing
    else."""
    return f"{base} {kind} {name}"


def member_tags(store: Store, member: Member) -> dict[str, str]:
    """What makes a run the child of its study's or search's run, which is created where it is missing."""
    tags = {
        "mlflow.parentRunId": _parent(store, member.kind, member.whole, member.question),
        member.kind: member.whole,
        "variant": member.variant,
        "seed": str(member.seed),
    }
    return tags | ({"tuned": member.tuned} if member.tuned else {})


def log_answer(
    where: Location,
    base: str,
    kind: str,
    name: str,
    question: str,
    note: str,
    metrics: Mapping[str, float],
    paths: Sequence[Path],
) -> None:
    """Keep the report of a study or search, these files, with its run; raises whatever MLflow does."""
    store = connect(where, experiment(base, kind, name))
    run_id = _parent(store, kind, name, question)
    store.client.set_tag(run_id, "mlflow.note.content", note)
    for metric, value in metrics.items():
        store.client.log_metric(run_id, metric, value)
    for path in paths:
        store.client.log_artifact(run_id, str(path), "report")
    store.client.set_terminated(run_id, "FINISHED")


def _parent(store: Store, kind: str, name: str, question: str) -> str:
    with FileLock(store.location.state / ".studies.lock", timeout=60):  # several runs may end at once
        found = store.client.search_runs([store.experiment], f"tags.`pipeline.{kind}` = '{name}'", max_results=1)
        if found:
            run_id: str = found[0].info.run_id
            return run_id
        tags = {f"pipeline.{kind}": name, kind: name, "mlflow.note.content": question}
        tags["mlflow.source.name"] = f"{kind} run"
        created = store.client.create_run(store.experiment, tags=tags, run_name=f"{kind} {name}")
        return str(created.info.run_id)
