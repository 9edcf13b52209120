"""What a training says its model was trained on, and that the same can be said of a bundle that was trained before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from candlecast.cli import export as command
from candlecast.cli import main
from candlecast.errors import BundleError, ConfigurationError
from candlecast.models.bundle import Bundle
from candlecast.models.reference import PREDICTIONS, Reference, parse
from candlecast.training.reference import DAY_MS, _ms, _stretches
from tests.training.conftest import SYMBOLS


def told(reference: Reference) -> dict[str, object]:
    return json.loads(reference.as_bytes())  # type: ignore[no-any-return]


@pytest.fixture
def bundle(trained: Bundle, tmp_path: Path) -> Path:
    """The trained bundle as one of before there were references."""
    path = tmp_path / "patchtst"
    shutil.copytree(trained.path, path)
    (path / "reference.json").unlink()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["reference.json"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_training_writes_what_it_was_fitted_to_and_what_it_says_behind_that(trained: Bundle) -> None:
    assert trained.reference is not None and trained.reference.predictions is not None
    features, said = trained.reference.features, trained.reference.predictions
    spans = trained.manifest.training["shipped"]["spans"]
    for part, name in ((features, "train"), (said, "validation")):
        assert [round(time.timestamp() * 1000) for time in part.span] == [_ms(spans[name][end]) for end in spans[name]]
        assert {(one.days, one.symbols) for one in part.usual} >= {(1, len(SYMBOLS))}
        assert all(one.psi.min() >= 0 and one.ks.max() <= 1 for one in part.usual)
    assert 0 < features.spread.rows < trained.manifest.training["samples"]
    assert said.spread.values.shape[0] == len(PREDICTIONS)
    confidence = said.spread.values[0]
    assert confidence.min() > 0.4 and confidence.max() <= 1
    sine = trained.manifest.feature_set.columns.index("tod_sin")
    assert features.spread.values[sine].min() < -0.9 and features.spread.values[sine].max() > 0.9


def test_export_gives_it_to_a_bundle_that_was_trained_before_and_keeps_the_rest(
    trained: Bundle, bundle: Path, market: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(bundle)
    assert Bundle.load(bundle).reference is None

    assert main(["export", str(bundle), "--json", "--reference", *map(str, market)]) == 0

    said, after = json.loads(capsys.readouterr().out), contents(bundle)
    assert said["bytes"] == len(after["reference.json"])
    assert {name: text for name, text in before.items() if name != "manifest.json"} == {
        name: text for name, text in after.items() if name not in ("manifest.json", "reference.json")
    }
    manifest, old = json.loads(after["manifest.json"]), json.loads(before["manifest.json"])
    assert manifest["files"].pop("reference.json") and manifest == old
    again = parse(after["reference.json"], len(trained.manifest.feature_set.columns))
    assert trained.reference is not None and trained.reference.predictions is not None and again.predictions is not None
    assert told(again)["features"] == told(trained.reference)["features"]
    np.testing.assert_allclose(  # the shipped file computes in halves
        again.predictions.spread.values, trained.reference.predictions.spread.values, atol=2e-3
    )

    command.add_program(bundle)
    assert Bundle.load(bundle).reference is not None


def test_other_candles_than_those_it_was_trained_on_are_refused_and_nothing_changes(
    bundle: Path, market: list[Path], tmp_path: Path
) -> None:
    before = contents(bundle)
    with pytest.raises(ConfigurationError, match=r"was trained on CCCUSDT-15m\.parquet, too: name all of its files"):
        command.add_reference(bundle, market[:2])
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / market[1].name
    pl.read_parquet(market[1]).with_columns(pl.col("volume") * 2).write_parquet(other)
    with pytest.raises(ConfigurationError, match=r"BBBUSDT-15m\.parquet: not the candles that"):
        command.add_reference(bundle, [market[0], other, market[2]])
    manifest = json.loads(before["manifest.json"])
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"training": {}}))
    with pytest.raises(BundleError, match="does not say what it was trained on"):
        command.add_reference(bundle, market)
    (bundle / "manifest.json").write_bytes(before["manifest.json"])
    assert contents(bundle) == before


def test_stretches_are_whole_days_of_whole_groups_of_symbols() -> None:
    hours = np.arange(24 * 5, dtype=np.int64) * 3_600_000
    times, symbol = np.tile(hours, 3), np.repeat(np.arange(3, dtype=np.int64), len(hours))
    index = np.arange(len(times), dtype=np.int64)
    found = list(_stretches(index, times, symbol, 1, np.unique(symbol), 2))
    assert len(found) == 4  # the last day may not be whole, nor is the last group
    for day, part in enumerate(found):
        assert len(part) == 2 * 24
        assert set(symbol[part]) == {0, 1} and set(times[part] // DAY_MS) == {day}
