"""Which version is the champion: promoted where it is not worse than the one before on the same test images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_pipeline.comparison import two_runs
from keras_pipeline.comparison.find_run import FoundRun
from keras_pipeline.comparison.two_runs import AnswerComparison
from keras_pipeline.core.errors import DataError, ParamsError
from keras_pipeline.registry import journal, versions
from keras_pipeline.registry.journal import CANDIDATE, CHAMPION, Judgement
from keras_pipeline.registry.versions import RegisteredModel, Version
from keras_pipeline.tracking.stores.address import Location

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_WORSE = (
    "a version is not worse unless the paired comparison on the same test images says so beyond chance, at the level "
    "of 5 %"
)


@dataclass(frozen=True)
class Promotion:
    """What became of a promotion or rollback: the version that was to be the champion, the champion before, whether
    it is the champion now, how both compare (None: nothing to compare with), and in words why."""

    version: int
    before: int | None
    done: bool
    comparison: Judgement | None
    why: str


def judge(answers: AnswerComparison, margin: float | None) -> Judgement:
    """Whether B, a new version, is not worse than A, the champion.

    It is not worse where `compare` does not find it worse beyond chance: McNemar's exact test for classes, the 95 %
    interval of the difference of the mean absolute error for numbers. With a `margin`, percentage points of the images
    or an amount of that error, it also has to be shown that it is not worse by as much (non-inferiority): the
    interval's worse end has to be within the margin.
    """
    metric, found = next(iter(answers.compared.items()))
    loss = -100 * found.low if answers.flips else found.high  # the largest that the interval allows
    unit = " points" if answers.flips else ""
    verdict = answers.verdict("the new version")
    if not answers.worse:
        verdict += f"; it may be worse by {loss:.3g}{unit} at most" if loss > 0 else "; it is not worse"
    if margin is not None:
        verdict += f"; the margin is {margin:g}{unit}"
    return {
        "metric": metric,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p if answers.flips else None,
        "verdict": verdict,
        "passed": not answers.worse and (margin is None or loss < margin),
    }


def promote(
    client: "MlflowClient",
    location: Location,
    name: str,
    wanted: str,
    fetch: Callable[[Version], FoundRun],
    *,
    margin: float | None = None,
    force: bool = False,
    reason: str = "",
) -> Promotion:
    """Make the version `wanted` the champion if it is not worse than the present one, or by `force` for a `reason`.

    `fetch` gives the run of a version. The version is not the candidate any more then. Raises DataError where the two
    cannot be compared, but not by `force`.
    """
    with journal.alone(location):
        model = versions.require_model(client, name)
        version = versions.find_version(model, wanted)
        before = model.at(CHAMPION)
        if version.number == before:
            _drop_candidate(client, model, version.number)
            return Promotion(version.number, before, True, None, f"version {before} is the champion already")
        comparison, why = None, _no_champion(model)
        if before is not None:
            try:
                comparison = judge(_compare(fetch(model.versions[before]), fetch(version)), margin)
                why = comparison["verdict"]
            except (DataError, ParamsError) as fault:
                why = " ".join(str(fault).split())
                if not force:
                    raise DataError(
                        f"versions {before} and {version.number} of '{name}' cannot be compared: {why}\n"
                        "Nothing was promoted. `--force --reason TEXT` promotes without a comparison, and keeps why."
                    ) from None
        if comparison and not comparison["passed"] and not force:
            return Promotion(version.number, before, False, comparison, why)
        kept = reason if comparison else "; ".join(filter(None, (reason, why)))
        entry = journal.new_entry(
            "promote", CHAMPION, model.aliases.get(CHAMPION), version.number, comparison, kept[: journal.LONGEST_REASON]
        )
        journal.move_alias(client, location, name, entry)
        _drop_candidate(client, model, version.number)
        return Promotion(version.number, before, True, comparison, why)


def _drop_candidate(client: "MlflowClient", model: RegisteredModel, number: int) -> None:
    if model.aliases.get(CANDIDATE) == number:
        client.delete_registered_model_alias(model.name, CANDIDATE)


def _no_champion(model: RegisteredModel) -> str:
    """Why there is nothing to compare with."""
    left = journal.left_at(model.journal, CHAMPION)
    if left is None or left in model.versions:
        return "there was no champion to compare with"
    return f"there was no champion to compare with: version {left}, the last one, was deleted"


def _compare(champion: FoundRun, new: FoundRun) -> AnswerComparison:
    answers = two_runs.compare_answers(champion, new)
    if answers is None:
        raise DataError(
            "they were tested on other images, or for other classes, so their answers cannot be paired. Expected: two "
            "networks of one dataset and task; others are registered under another --name."
        )
    return answers


def rollback(client: "MlflowClient", location: Location, name: str, reason: str = "") -> Promotion:
    """Make the champion before the present one the champion again, as the journal has it; where that was deleted, the
    one before it. Raises ParamsError where there is none."""
    with journal.alone(location):
        model = versions.require_model(client, name)
        present = model.aliases.get(CHAMPION)
        earlier = [one for one in reversed(journal.past_champions(model.journal)) if one != present]
        deleted = []
        for number in earlier:
            if number in model.versions:
                break
            deleted.append(number)
        else:
            gone = f" (deleted: {', '.join(map(str, deleted))})" if deleted else ""
            raise ParamsError(
                f"'{name}' has no champion before {journal.told(present)} to go back to{gone}. `keras-pipeline model "
                "list --journal` shows all; `promote NUMBER` takes any version."
            )
        skipped = "; ".join(f"version {one} was deleted" for one in deleted)
        kept = "; ".join(filter(None, (reason, skipped)))[: journal.LONGEST_REASON]
        journal.move_alias(
            client, location, name, journal.new_entry("rollback", CHAMPION, present, number, reason=kept)
        )
        return Promotion(number, present, True, None, skipped)
