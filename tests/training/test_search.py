"""The search: what it suggests, what it keeps, and how it goes on. The family is a stand-in whose loss is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from rich.progress import Progress

from candlecast.errors import CandlecastError, ConfigurationError, StorageUnavailable
from candlecast.training import search
from candlecast.training.config import Config
from candlecast.training.data import Samples
from candlecast.training.family import families
from candlecast.training.folds import Shown
from candlecast.training.labels import Labels
from candlecast.training.search import Search
from candlecast.training.splits import Span, Split

HOUR = 3_600_000
SPLIT = Split(Span(0, 30 * HOUR), Span(30 * HOUR, 40 * HOUR), None)


class Standin:
    """A family whose validation loss is how far log10 of the learning rate is from -3; a fit has 10 steps."""

    fits: list[Config]
    trained_on: list[int]

    def __init__(self, wrong: Callable[[int], Exception | None] = lambda fit: None) -> None:
        self.fits, self.trained_on, self.wrong = [], [], wrong

    def __call__(self, config: Config) -> Standin:
        self.fits.append(config)
        return self

    def fit(self, samples: Samples, train: Any, validation: Any, seed: int, on_step: Any) -> Any:
        self.trained_on.append(len(train))
        if error := self.wrong(len(self.fits)):
            raise error
        loss = abs(np.log10(self.fits[-1].fit.learning_rate) + 3)
        for step in range(1, 11):
            on_step(step, 10, 1.0, loss + 1 / step)
        return SimpleNamespace(fitted=SimpleNamespace(validation_loss=loss, interrupted=False))


@pytest.fixture
def samples() -> Samples:
    count = np.arange(60)
    directions = np.tile(np.arange(3, dtype=np.int8)[:, None], (20, 4))
    zeros = np.zeros((60, 4), np.float32)
    return Samples(np.zeros((60, 2), np.float32), count, count * HOUR, Labels(count, zeros, directions, zeros))


def run(family: Standin, samples: Samples, trials: int, storage: str | None = None) -> tuple[Config, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "families", lambda: {"lstm": family})
        shown = Shown(Progress(disable=True), lambda **where: None)
        return search.run("lstm", samples, SPLIT, Config(), Search(trials, storage), "study", shown)


def test_the_best_trial_becomes_the_configuration(samples: Samples) -> None:
    family = Standin()

    config, found = run(family, samples, 12)

    losses = [abs(np.log10(tried.fit.learning_rate) + 3) for tried in family.fits]
    best = family.fits[int(np.argmin(losses))]
    assert len(family.fits) == 12 and config == best
    assert found["trials"] == 12 and found["pruned"] > 0
    assert found["validation_loss"] == pytest.approx(min(losses), abs=1e-6)
    assert found["parameters"].keys() == search.SPACE["lstm"].keys()
    assert set(family.trained_on) == {30}  # the first fold's train part, nothing later


def test_a_study_in_a_file_is_gone_on_with(samples: Samples, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")
    first = Standin()
    _, found = run(first, samples, 5, path)
    second = Standin()

    _, more = run(second, samples, 8, path)
    _, same = run(third := Standin(), samples, 8, path)

    assert (len(first.fits), len(second.fits), len(third.fits)) == (5, 3, 0)
    assert more["trials"] == 8 and more["validation_loss"] <= found["validation_loss"]
    assert same == more
    assert not {c.fit.learning_rate for c in first.fits} & {c.fit.learning_rate for c in second.fits}


def test_ctrl_c_ends_the_search_and_its_trials_stay(samples: Samples, tmp_path: Path) -> None:
    path = str(tmp_path / "study.journal")

    with pytest.raises(KeyboardInterrupt, match="3 of 9 trials are kept in its --storage: the same command goes on"):
        run(Standin(lambda fit: KeyboardInterrupt() if fit == 4 else None), samples, 9, path)  # type: ignore[arg-type]
    run(rest := Standin(), samples, 9, path)

    assert len(rest.fits) == 9 - 3


def test_a_trial_that_diverges_is_passed_over_and_a_wrong_configuration_is_not(samples: Samples) -> None:
    _, found = run(Standin(lambda fit: CandlecastError("the loss is nan") if fit % 2 else None), samples, 6)
    assert found["trials"] == 6 and found["pruned"] >= 3

    with pytest.raises(CandlecastError, match="none of 3 trials came to an end"):
        run(Standin(lambda fit: CandlecastError("the loss is nan")), samples, 3)
    with pytest.raises(ConfigurationError, match="not finite"):
        run(Standin(lambda fit: ConfigurationError("a row is not finite")), samples, 3)


def test_a_storage_that_cannot_be_used_is_one_clear_line(samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="give a file in a folder that is there"):
        run(Standin(), samples, 2, str(tmp_path / "none" / "study.journal"))
    with pytest.raises(StorageUnavailable, match="the study's database cannot be used"):
        run(Standin(), samples, 2, "postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize("kind", list(families()))
def test_every_parameter_is_one_of_the_configuration(kind: str) -> None:
    for edge in (0, -1):
        values = {
            name: (of.low, of.high)[edge] if isinstance(of, search.Between) else of[edge]
            for name, of in search.SPACE[kind].items()
        }
        config = search.applied(Config(), values)
        for name, value in values.items():
            table, _, field = name.partition(".")
            assert getattr(getattr(config, table), field) == value
    trial = optuna.trial.FixedTrial(values)
    assert search.suggested(kind, trial) == values  # type: ignore[arg-type]
