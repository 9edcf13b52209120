"""The pipeline does not fool itself: a leak is exposed, noise scores the base rate, no part of a fold knows another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.progress import Progress
from sklearn.linear_model import Ridge

from candlecast.features import NAMES
from candlecast.training import suspicion
from candlecast.training.data import Samples, prepare
from candlecast.training.evaluate import verdict
from candlecast.training.family import Fitted
from candlecast.training.family import Progress as OnStep
from candlecast.training.folds import Run, Shown, run_all
from candlecast.training.labels import FUTURE_BARS, Labels
from candlecast.training.report import Report, write
from candlecast.training.sources import read_history
from candlecast.training.splits import Split, walk_forward
from candlecast.values import F32, I64
from tests.training.conftest import INTERVAL_MS, START_MS

BARS = 4000
LEAK = NAMES.index("rsi_14")


def aimless(seed: int, bars: int = BARS) -> pl.DataFrame:
    """Return candles whose volatility moves and whose direction is a coin."""
    rng = np.random.default_rng(seed)
    volatility = 0.004 * np.exp(np.sin(np.arange(bars) / 200) / 2)
    close = 100 * np.exp(np.cumsum(volatility * rng.standard_normal(bars)))
    opened = np.concatenate([[100.0], close[:-1]])
    wick = 1 + volatility * np.abs(rng.standard_normal((2, bars)))
    return pl.DataFrame(
        {
            "ts": START_MS + INTERVAL_MS * np.arange(bars),
            "open": opened,
            "high": np.maximum(opened, close) * wick[0],
            "low": np.minimum(opened, close) / wick[1],
            "close": close,
            "volume": rng.lognormal(3, 1, bars),
        }
    )


def prepared(folder: Path, frames: dict[str, pl.DataFrame], stride: int = 3) -> Samples:
    files = [folder / f"{symbol}-15m.parquet" for symbol in frames]
    for file, frame in zip(files, frames.values(), strict=True):
        frame.write_parquet(file)
    return prepare(read_history(files), folder, stride, lambda symbol: None)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return prepared(tmp_path_factory.mktemp("aimless"), {"AAA": aimless(1), "BBB": aimless(2)})


class Linear:
    """A family as `training.family` wants it: ridge on the newest row. It remembers what it was shown."""

    name = "linear"

    def __init__(self) -> None:
        self.shown: list[tuple[I64, I64]] = []

    def fit(
        self,
        samples: Samples,
        train: I64,
        validation: I64,
        seed: int,
        on_step: OnStep,
        checkpoint: Path | None = None,
    ) -> Fit:
        self.shown.append((train, validation))
        return Fit(samples, train)


class Fit:
    fitted = Fitted(1.0, 1.0, 1, 1, 1, 0.0, False)

    def __init__(self, samples: Samples, train: I64) -> None:
        rows = samples.newest(train)
        self.mean, self.deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
        came = np.eye(3)[samples.labels.directions[train]].reshape(-1, 12)  # [M, 4 · 3]
        self.model = Ridge(alpha=len(train)).fit(self._scaled(samples, train), came)

    def predict(self, samples: Samples, index: I64) -> F32:
        answers = np.zeros((len(index), 20), dtype=np.float32)
        answers[:, 4:16] = np.log(np.clip(self.model.predict(self._scaled(samples, index)), 0.01, 1))
        return answers

    def _scaled(self, samples: Samples, index: I64) -> Any:
        return (samples.newest(index) - self.mean) / self.deviation


def leaking(samples: Samples, horizon: int) -> Samples:
    """Plant the return that is to be foretold in a column of the newest row of every window."""
    rows = np.array(samples.rows)
    rows[samples.end - 1, LEAK] = samples.labels.returns[:, horizon]
    return replace(samples, rows=rows)


def shuffled(samples: Samples) -> Samples:
    order = np.random.default_rng(0).permutation(len(samples))
    return replace(samples, labels=samples.labels.take(order), past=samples.past and samples.past.take(order))


def fold(samples: Samples) -> Split:
    times = samples.open_time_ms
    return walk_forward(int(times.min()), int(times.max()) + INTERVAL_MS, INTERVAL_MS, 1)[0]


def run(samples: Samples, family: Linear) -> Run:
    """Run the trainer's own fold driver over the first fold."""
    with Progress(disable=True) as progress:
        shown = Shown(progress, lambda **where: None)
        (only,) = run_all(samples, [fold(samples)], family, 0, Path("no-checkpoint"), shown)
    return only


def walked(samples: Samples) -> dict[str, Any]:
    measured = run(samples, Linear()).measured
    assert measured is not None
    return measured


def suspects(samples: Samples) -> list[str]:
    return suspicion.columns(samples, np.arange(len(samples)))


def test_a_column_that_holds_the_label_is_named_in_the_first_line_of_the_report(
    samples: Samples, tmp_path: Path
) -> None:
    leaked = leaking(samples, horizon=2)

    measured = walked(leaked)
    found = suspicion.skills(measured) + suspects(leaked)
    write(tmp_path / "r.html", Report("a leak", {}, measured, warnings=suspects(leaked)))

    assert all("rsi_14" in line for line in suspects(leaked))
    kept = suspicion.found_in({"walk_forward": {"folds": [measured]}})  # as the manifest keeps it
    assert any("column rsi_14 alone" in line and line.endswith(", in fold 1") for line in kept)
    assert any("side accuracy" in line for line in kept)
    assert any("side accuracy" in line for line in found)
    for page in ("r.html", "r.md"):
        text = (tmp_path / page).read_text().partition("<body>")[2] or (tmp_path / page).read_text()
        assert "rsi_14" in text.strip().splitlines()[0]
        assert "Suspicious" in text.strip().splitlines()[0]


def test_a_market_without_a_leak_is_not_suspected(samples: Samples) -> None:
    assert suspects(samples) == []
    assert suspicion.skills(walked(samples)) == []


@pytest.mark.parametrize("every", [1, 7])
def test_columns_of_little_data_are_not_suspected_by_chance(samples: Samples, every: int) -> None:
    first = samples.open_time_ms.min() + 500 * every * INTERVAL_MS
    index = np.flatnonzero(samples.open_time_ms < first)[::every]

    assert suspicion.columns(samples, index) == []
    (only,) = suspicion.columns(leaking(samples, 0), index)
    assert "column rsi_14 alone" in only


def test_shuffled_labels_score_the_base_rate(samples: Samples) -> None:
    measured = walked(shuffled(samples))

    for numbers in measured["horizons"].values():
        assert numbers["skill"]["low"] <= 0
        assert abs(numbers["skill"]["model"]) < 0.01
        # One side comes a little more often than the other, and there are four intervals of 95 %.
        assert numbers["side_accuracy"]["low"] - 0.02 <= 0.5 <= numbers["side_accuracy"]["high"] + 0.02
    assert verdict(measured).startswith("No edge")


def test_no_edge_is_the_first_line_of_the_report(samples: Samples, tmp_path: Path) -> None:
    measured = walked(shuffled(samples))

    leak = "suspicious: column rsi_14 alone: …, in fold 1 of the training of patchtst v1"
    write(tmp_path / "r.html", Report("noise", {}, measured, warnings=[leak, "the data is short"]))

    assert (tmp_path / "r.md").read_text().startswith("**No edge")
    assert (tmp_path / "r.html").read_text().partition("<body>\n")[2].startswith('<p class="verdict">No edge')


def test_candles_without_a_complete_future_are_no_samples(tmp_path: Path) -> None:
    frame = aimless(3, 1400)
    last = []
    for cut in (0, 7):
        (tmp_path / str(cut)).mkdir()
        samples = prepared(tmp_path / str(cut), {"AAA": frame[: len(frame) - cut]}, stride=1)
        last.append((int(samples.open_time_ms.max()) - START_MS) // INTERVAL_MS)

    assert last == [len(frame) - 1 - FUTURE_BARS, len(frame) - 1 - FUTURE_BARS - 7]


def test_scaler_temperatures_and_fit_know_nothing_of_the_test_part(samples: Samples) -> None:
    split = fold(samples)
    assert split.test is not None
    parts = [span.of(samples.open_time_ms) for span in (split.train, split.validation, split.test)]
    test = parts[2]
    rows, labels = np.array(samples.rows), samples.labels
    first = samples.open_time_ms[test].min()
    for k in np.flatnonzero(samples.open_time_ms >= first):
        rows[samples.end[k] - 1] *= 1000
    other = Labels(labels.at, labels.returns.copy(), labels.directions.copy(), labels.risks.copy())
    for column in (other.returns, other.directions, other.risks):
        column[test] = column[test[::-1]]
    family = Linear()

    before = run(samples, family)
    after = run(replace(samples, rows=rows, labels=other), family)

    for shown in family.shown:
        for index, part in zip(shown, parts[:2], strict=True):
            np.testing.assert_array_equal(index, part)
    np.testing.assert_array_equal(before.temperatures, after.temperatures)
    for name in ("mean", "deviation"):
        np.testing.assert_array_equal(getattr(before.model, name), getattr(after.model, name))
    np.testing.assert_array_equal(before.model.predict(samples, parts[1]), after.model.predict(samples, parts[1]))
    assert before.measured != after.measured


def test_temperatures_are_those_of_the_validation_part(samples: Samples) -> None:
    split = fold(samples)
    validation = split.validation.of(samples.open_time_ms)
    labels = samples.labels
    other = Labels(labels.at, labels.returns, labels.directions.copy(), labels.risks)
    other.directions[validation] = (other.directions[validation] + 1) % 3

    before, after = (run(changed, Linear()) for changed in (samples, replace(samples, labels=other)))

    assert (before.temperatures != after.temperatures).any()
    np.testing.assert_array_equal(before.model.predict(samples, validation), after.model.predict(samples, validation))
