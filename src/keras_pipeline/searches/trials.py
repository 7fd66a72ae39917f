"""The trials of a search, as Optuna keeps them: what to try next, its result, what is worth no more epochs.

One process at a time writes; who asks for it sees to that. Optuna is told every draw anew with what it draws from: the
search's seed and how many trials there are. So a search that goes on draws what it would have drawn.
"""

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_pipeline.core.errors import DataError, MachineError, ParamsError, masked
from keras_pipeline.core.json_files import check_type, refuse
from keras_pipeline.runs.run import Run, Values
from keras_pipeline.searches.journal import ATTRIBUTES, REMEDY, open_journal
from keras_pipeline.searches.search import Dimension, Search, round_number

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


STORAGE = "KERAS_PIPELINE_SEARCH_STORAGE"
"""The environment variable with the address of an SQLite or PostgreSQL database; an address may hold a password."""
MOST_DRAWS = 1000
TIRED = 10
"""After so many draws of what is known the sampler is not asked any more; chance finds something new."""
LEAST_BEFORE_PRUNING = 5
LEAST_FOR_IMPORTANCE = 10


@dataclass(frozen=True)
class TrialResult:
    """A trial as it is kept; `state`: running, complete, pruned; `epochs`: the metric by epoch; `why` it was pruned."""

    number: int
    state: str
    value: float | None
    values: Values
    epochs: Mapping[int, float]
    seconds: float | None
    why: str


def best_trial(search: Search, trial_results: Sequence[TrialResult]) -> TrialResult | None:
    """The complete trial with the best value, the first of several; None where none is complete."""
    complete = [(one.value, one) for one in trial_results if one.value is not None]
    sign = -1 if search.settings.maximize else 1
    return min(complete, key=lambda pair: sign * pair[0])[1] if complete else None


class Trials:
    """The trials of one search in the storage; `identity` says which search of that name is meant."""

    def __init__(self, search: Search, identity: str, journal: Path, *, create: bool) -> None:
        """Open the storage, and in it the search; where it is missing it is created, or, if not `create`, empty.

        Raises MachineError where the storage cannot be reached, DataError where a trial in it is none of the search's.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.search = search
        self.place = masked(os.environ[STORAGE]) if STORAGE in os.environ else str(journal)
        self.distributions = {
            key: _distribution(one, integer=key in search.integer_keys) for key, one in search.settings.space.items()
        }
        name = f"{search.name} {identity}"
        direction: Literal["maximize", "minimize"] = "maximize" if search.settings.maximize else "minimize"
        if create or os.path.lexists(journal) or STORAGE in os.environ:
            with storage_faults():
                storage = _storage(journal)
                if name in optuna.get_all_study_names(storage):
                    self.study = optuna.load_study(study_name=name, storage=storage)  # which writes nothing
                elif create:
                    self.study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        if not hasattr(self, "study"):
            self.study = optuna.create_study(direction=direction)
        self._check(journal, name)
        # A quarter of the trials shows what is common, as five do.
        before = min(LEAST_BEFORE_PRUNING, max(1, search.settings.trials // 4))
        if search.settings.pruner == "median":
            # Optuna's steps are our epochs, and those below the warm-up's number are spared.
            self.study.pruner = optuna.pruners.MedianPruner(before, search.settings.warmup_epochs + 1)
        else:
            self.study.pruner = optuna.pruners.NopPruner()

    def _check(self, journal: Path, name: str) -> None:
        """Raise DataError for a trial that could not be one of this search, with the values and the key of its run."""
        from optuna.trial import TrialState

        for one in (*self._counted(), *self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))):
            try:
                check_type(one.user_attrs, ATTRIBUTES)
                if one.state.name == "WAITING":
                    self._check_values(one.system_attrs.get("fixed_params"))
                    continue
                if one.state.name == "RUNNING" and "key" not in one.user_attrs:
                    continue  # killed between the two
                self._check_values(one.params)
                key, kept = self.search.trial(one.number, self._values(one.params)).key, one.user_attrs.get("key")
                if kept != key:
                    refuse("key", kept, f"{key}, by its values")
                if one.state.name == "COMPLETE" and one.value is None:
                    refuse("value", None, "a number")
            except (ValueError, ParamsError) as fault:
                place, remedy = f"{journal}", REMEDY
                if STORAGE in os.environ:
                    place = f"{STORAGE}={masked(os.environ[STORAGE])}, study '{name}'"
                    remedy = "Delete that study there, and do `keras-pipeline search run` again."
                reason = str(fault).split("\n")[0]
                raise DataError(f"{place}: trial {one.number}: {reason} {remedy}") from None

    def _check_values(self, params: Any) -> None:
        """Raise ValueError where they are not out of the search's space."""
        if not isinstance(params, dict) or params.keys() != self.distributions.keys():
            refuse("its values", params, "those of the search's space")
        for key, value in params.items():
            distribution = self.distributions[key]
            try:
                contained = distribution._contains(distribution.to_internal_repr(value))
            except (ValueError, TypeError):
                contained = False
            if not contained:
                refuse(key, value, "a value of the search's space")

    def recover(self) -> list[str]:
        """Queue again what a process that is gone was training; the keys of those runs."""
        from optuna.trial import TrialState

        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        again = {one.user_attrs.get("instead_of") for one in waiting}
        lost = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for one in lost:
            # Told in this order, nothing is lost and nothing doubled where this process ends in between.
            if one.number not in again and one.params.keys() == self.distributions.keys():
                self.study.enqueue_trial(one.params, user_attrs={"instead_of": one.number})
            self.study.tell(one.number, state=TrialState.FAIL)
        return [one.user_attrs["key"] for one in lost if "key" in one.user_attrs]

    def ask(self) -> tuple["optuna.Trial", Run]:
        """The next trial, of values that no other has. Raises ParamsError where none is found."""
        import optuna

        known = {one.user_attrs.get("key") for one in self._counted()}
        refused = ""

        def new(number: int, params: Mapping[str, Any]) -> Run | None:
            nonlocal refused
            try:
                run = self.search.trial(number, self._values(params))
            except ParamsError as fault:
                refused = str(fault)
                return None
            return None if run.key in known else run

        for attempt in range(TIRED):
            self.study.sampler = self._sampler(attempt)
            trial = self.study.ask(self.distributions)
            if run := new(trial.number, trial.params):
                trial.set_user_attr("key", run.key)
                return trial, run
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        chance = optuna.create_study(sampler=optuna.samplers.RandomSampler(self._seed(TIRED)))  # kept nowhere
        for _ in range(MOST_DRAWS):
            params = chance.ask(self.distributions).params
            if new(0, params):
                self.study.enqueue_trial(params)
                return self.ask()
        raise ParamsError(
            f"{self.search.path}: no values were found in the space that no trial has and that go together. "
            f"Expected: a larger space, or fewer trials.\n{refused}".rstrip()
        )

    def report(self, trial: "optuna.Trial", rows: Sequence[Mapping[str, float]]) -> bool:
        """Keep the metric of these epochs, which are new; whether one of them makes the trial worth no more."""
        unpromising = False
        for row in rows:
            trial.report(row[self.search.settings.metric], int(row["epoch"]))
            unpromising = unpromising or trial.should_prune()
        return unpromising

    def complete(self, trial: "optuna.Trial", value: float, seconds: float | None) -> None:
        """The trial has trained to its end; `seconds` its process took, where it did all of it."""
        if seconds is not None:
            trial.set_user_attr("seconds", seconds)
        self.study.tell(trial, value)

    def give_up(self, trial: "optuna.Trial", why: str) -> None:
        """The trial ended early: it was pruned, or diverged."""
        from optuna.trial import TrialState

        trial.set_user_attr("why", why)
        self.study.tell(trial, state=TrialState.PRUNED)

    def results(self) -> list[TrialResult]:
        """The trials that count, those that are running too, in their order."""
        return [
            TrialResult(
                one.number,
                one.state.name.lower(),
                one.value if one.state.name == "COMPLETE" else None,
                self._values(one.params),
                dict(one.intermediate_values),
                one.user_attrs.get("seconds"),
                one.user_attrs.get("why", ""),
            )
            for one in self._counted()
        ]

    def importances(self) -> dict[str, float]:
        """Of each key, its share in what separates the best tenth of the trials from all (PED-ANOVA: Watanabe, Bansal
        and Hutter 2023); nothing where too few are complete to say."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        if sum(one.state == "complete" for one in self.results()) < LEAST_FOR_IMPORTANCE:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())
        return {key: float(value) for key, value in found.items()}

    def _counted(self) -> list["optuna.trial.FrozenTrial"]:
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        return self.study.get_trials(deepcopy=False, states=states)

    def _values(self, params: Mapping[str, Any]) -> Values:
        """What the params of an Optuna trial stand for."""
        found: Values = {}
        for key, drawn in params.items():
            dimension = self.search.settings.space[key]
            integer = key in self.search.integer_keys
            found[key] = json.loads(drawn) if dimension.choices else round_number(dimension, drawn, integer=integer)
        return found

    def _sampler(self, attempt: int) -> "optuna.samplers.BaseSampler":
        import optuna

        if self.search.settings.sampler == "random":
            return optuna.samplers.RandomSampler(self._seed(attempt))
        return optuna.samplers.TPESampler(seed=self._seed(attempt))

    def _seed(self, attempt: int) -> int:
        drawn_from = [self.search.settings.seed, len(self._counted()), attempt]
        return int(np.random.SeedSequence(drawn_from).generate_state(1)[0])


def _distribution(dimension: Dimension, *, integer: bool) -> "BaseDistribution":
    """A choice is its JSON text: Optuna keeps no lists, and takes 1 and true for the same."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.choices or dimension.low is None or dimension.high is None:
        return CategoricalDistribution([json.dumps(one) for one in dimension.choices or ()])
    if integer:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def _storage(journal: Path) -> "optuna.storages.BaseStorage":
    from optuna.storages import get_storage

    return get_storage(os.environ[STORAGE]) if STORAGE in os.environ else open_journal(journal)


@contextmanager
def storage_faults() -> Iterator[None]:
    """Raises MachineError, without the password, where a database cannot be used."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (ImportError, SQLAlchemyError, OptunaError) as error:
        if STORAGE not in os.environ:
            raise
        cause = error.__cause__ or error
        raise MachineError(
            f"{STORAGE}={masked(os.environ[STORAGE])}: this storage cannot be used "
            f"({masked(str(cause)).strip().splitlines()[0]}). Start it, correct its address, install its driver, or "
            "unset the variable: then a file below searches/ is used."
        ) from None
