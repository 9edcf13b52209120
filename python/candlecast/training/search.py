"""Hyper-parameter search by Optuna: which parameters, how far, how a trial is judged. Knows no bundle.

A trial is a fit of the first fold, judged by its validation loss: all that is tested later lies after what was searched
on. The study is kept in a journal file or in PostgreSQL (schema `optuna`) and gone on with when it is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.trial import Trial, TrialState

from candlecast.errors import CandlecastError, ConfigurationError, StorageUnavailable
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.family import families
from candlecast.training.folds import Shown, parts
from candlecast.training.splits import Split

SCHEMA: Final = "optuna"
REPORTS: Final = 10
"""How often in a trial it may be pruned."""


@dataclass(frozen=True, slots=True)
class Between:
    low: float
    high: float
    log: bool = False


Range = Between | tuple[Any, ...]
"""Between two numbers, or one of some."""
_FIT: Final[dict[str, Range]] = {
    "fit.learning_rate": Between(1e-4, 3e-3, log=True),
    "fit.weight_decay": Between(1e-3, 0.3, log=True),
}
_TREES: Final[dict[str, Range]] = {
    "trees.learning_rate": Between(0.01, 0.3, log=True),
    "trees.depth": (3, 4, 6, 8),
    "trees.leaves": (7, 15, 31, 63),
    "trees.subsample": Between(0.5, 1.0),
    "trees.colsample": Between(0.2, 1.0),
    "trees.l2": Between(0.1, 30.0, log=True),
}
SPACE: Final[dict[str, dict[str, Range]]] = {
    "patchtst": {
        **_FIT,
        "network.dropout": Between(0.0, 0.4),
        "network.width": (128, 192, 256),
        "network.layers": (1, 2, 3),
        "network.instance_norm": (False, True),
    },
    "lstm": {**_FIT, "lstm.dropout": Between(0.0, 0.4), "lstm.width": (64, 128, 192), "lstm.layers": (1, 2)},
    "xgboost": _TREES,
    "lightgbm": _TREES,
}
"""What is searched, by kind: TABLE.NAME of the configuration."""


@dataclass(frozen=True, slots=True)
class Search:
    trials: int  # in all, those of an earlier run of the same study among them
    storage: str | None = None  # a journal file or a postgresql:// URL; None: forgotten afterwards


def run(
    kind: str, samples: Samples, split: Split, config: Config, asked: Search, name: str, shown: Shown
) -> tuple[Config, dict[str, Any]]:
    """Search on the split's train and validation part; return the configuration with the best and what was found.

    Raises:
        ConfigurationError: the storage cannot be used, or the data does not do.
        StorageUnavailable: the database does not answer.
        CandlecastError: no trial came to an end.
        KeyboardInterrupt: Ctrl-C; it says what becomes of the trials.
    """
    train, validation = parts("the search", samples, split)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(name, asked.storage, config.seed)
    done = _ended(study)
    task = shown.progress.add_task("search", total=asked.trials, completed=done, note="")
    shown.say(f"search: study {name}, {done} of {asked.trials} trials there already")

    def objective(trial: Trial) -> float:
        reported = -1

        def on_step(step: int, steps: int, loss: float, best: float) -> None:
            nonlocal reported
            at = step * REPORTS // max(steps, 1)
            shown.progress.update(task, note=f"trial {trial.number}: step {step} of {steps}, validation {best:.4f}")
            if at > reported and np.isfinite(best):
                reported = at
                trial.report(best, at)
                if trial.should_prune():
                    raise optuna.TrialPruned

        family = families()[kind](applied(config, suggested(kind, trial)))
        try:
            fitted = family.fit(samples, train, validation, config.seed, on_step).fitted
        except ConfigurationError:
            raise
        except CandlecastError as error:  # it diverged
            raise optuna.TrialPruned(str(error)) from error
        if fitted.interrupted:
            raise KeyboardInterrupt
        return fitted.validation_loss

    def ended(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        shown.progress.update(task, completed=_ended(study))
        shown.note(phase="search", step=_ended(study), steps=asked.trials, validation_loss=_best(study))

    if done < asked.trials:
        try:
            study.optimize(objective, n_trials=asked.trials - done, callbacks=[ended])
        except KeyboardInterrupt:
            kept = f"{_ended(study)} of {asked.trials} trials are kept in its --storage: the same command goes on"
            lost = "its trials are forgotten, for it had no --storage"
            raise KeyboardInterrupt(f"the search was interrupted: {kept if asked.storage else lost}") from None
    if _best(study) is None:
        raise CandlecastError(f"none of {asked.trials} trials came to an end; give --search more, or a smaller range")
    shown.say(f"search: validation loss {study.best_value:.4f} with {study.best_params}")
    pruned = len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
    found = {"study": name, "trials": _ended(study), "pruned": pruned, "validation_loss": round(study.best_value, 6)}
    return applied(config, study.best_params), found | {"parameters": study.best_params}


def suggested(kind: str, trial: Trial) -> dict[str, Any]:
    """Return a trial's value of each parameter."""
    return {
        name: trial.suggest_float(name, of.low, of.high, log=of.log)
        if isinstance(of, Between)
        else trial.suggest_categorical(name, of)
        for name, of in SPACE[kind].items()
    }


def applied(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with these values of TABLE.NAME."""
    for name, value in values.items():
        table, _, field = name.partition(".")
        changed: Any = {table: replace(getattr(config, table), **{field: value})}
        config = replace(config, **changed)
    return config


def _study(name: str, storage: str | None, seed: int) -> optuna.Study:
    try:
        study = optuna.create_study(
            study_name=name, storage=_storage(storage), load_if_exists=True, pruner=optuna.pruners.MedianPruner(4)
        )
    except OSError as error:
        raise ConfigurationError(
            f"--storage {storage}: {error.strerror}; give a file in a folder that is there"
        ) from error
    # Another seed for what comes after a break: the same would try the same again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    return study


def _storage(storage: str | None) -> optuna.storages.BaseStorage | None:
    if storage is None:
        return None
    if not storage.startswith(("postgresql://", "postgres://")):
        from optuna.storages.journal import JournalFileBackend

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.storages.JournalStorage(JournalFileBackend(str(Path(storage).absolute())))
    import psycopg
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with psycopg.connect(storage, connect_timeout=5) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        url = make_url(storage).set(drivername="postgresql+psycopg")
        url = url.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
        return optuna.storages.RDBStorage(url.render_as_string(hide_password=False))
    except (psycopg.Error, SQLAlchemyError) as error:
        raise StorageUnavailable(
            f"the study's database cannot be used: {str(error).strip().splitlines()[0]}"
        ) from error


def _ended(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _best(study: optuna.Study) -> float | None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min((trial.value for trial in complete if trial.value is not None), default=None)
