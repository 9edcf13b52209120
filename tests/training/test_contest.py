"""Two bundles on candles that neither was trained on: the same candles, and only those."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from candlecast.filters import Thresholds
from candlecast.models.bundle import Bundle
from candlecast.training.comparison import Comparison
from candlecast.training.contest import contest
from candlecast.training.splits import EMBARGO_BARS
from tests import bad_models
from tests.training.conftest import INTERVAL_MS, START_MS, simulate

BARS, KNOWN = 2_000, 1_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("market")
    for seed, symbol in enumerate(("AAAUSDT", "BBBUSDT")):
        simulate(seed, BARS).write_parquet(folder / f"{symbol}-15m.parquet")
    return sorted(folder.iterdir())


def bundle(path: Path, version: int, known: int, *, seed: int = 0) -> Bundle:
    """Return one that was trained on so many candles."""
    bad_models.good(path / str(version), version=version, seed=seed)
    manifest = path / str(version) / "manifest.json"
    last = pl.from_epoch(pl.Series([START_MS + (known - 1) * INTERVAL_MS]), "ms")[0].isoformat() + "Z"
    data = {"interval_ms": INTERVAL_MS, "symbols": ["AAAUSDT", "BBBUSDT"], "from": "2024-01-01T00:00:00Z", "to": last}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"data": data}))
    return Bundle.load(path / str(version))


def compared(files: list[Path], champion: Bundle, challenger: Bundle) -> Comparison:
    return contest(champion, challenger, files, costs=0.0012, margin=0.0, thresholds=Thresholds())


def test_both_are_asked_about_every_candle_that_neither_knows(files: list[Path], tmp_path: Path) -> None:
    old, new = bundle(tmp_path, 1, KNOWN), bundle(tmp_path, 2, KNOWN - 300)

    found = compared(files, old, new)

    # After the candles that one of them knows, the embargo, and before the 48 without an outcome.
    each = BARS - (KNOWN - 1) - EMBARGO_BARS - 48
    assert found.rows == {"champion": 2 * each, "challenger": 2 * each}
    assert (found.symbols, found.bars) == (2, each)
    assert found.mean["log_loss"]["difference"] == 0  # they are the same model
    assert found.latency_ms == {}
    assert compared(files, old, bundle(tmp_path, 3, KNOWN, seed=1)).mean["log_loss"]["difference"] != 0


@pytest.mark.parametrize("known", [BARS, BARS - EMBARGO_BARS - 20])
def test_where_one_knows_them_all_nothing_is_known(files: list[Path], tmp_path: Path, known: int) -> None:
    found = compared(files, bundle(tmp_path, 1, known), bundle(tmp_path, 2, KNOWN))

    assert found.verdict == "not yet known"
    assert found.sentence.startswith(
        "Not yet known whether patchtst v2 is better than patchtst v1: no forecasts of both"
    )
