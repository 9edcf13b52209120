"""Who speaks for a bar: never a fit that has seen it, where the bundle holds one that has not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from candlecast.errors import BundleError
from candlecast.interpret import interpret
from candlecast.models import bundle as bundles
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import contents
from candlecast.training import export
from candlecast.training.sources import utc
from candlecast.training.speakers import onnx, walked
from candlecast.values import F64
from tests.bundles import small_bundle

HOUR_MS = 3_600_000
SPANS = ((10, 20), (23, 30))
"""Hours of the test parts of two folds."""
TEMPERATURES = ([2.0, 1.0, 0.5, 3.0], [0.7, 0.7, 0.7, 0.7])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Return a bundle whose folds are the models of other seeds."""
    whole = small_bundle(tmp_path / "whole")
    others = [small_bundle(tmp_path / str(seed), seed=seed).path / "model.onnx" for seed in (1, 2)]
    folds = [
        {"spans": {"test": {"from": utc(a * HOUR_MS), "before": utc(b * HOUR_MS)}}, "temperatures": temperatures}
        for (a, b), temperatures in zip(SPANS, TEMPERATURES, strict=True)
    ]
    manifest = replace(whole.manifest, metrics={"walk_forward": {"folds": folds}}, temperatures=[1.0, 2.0, 1.0, 0.5])
    model = (whole.path / "model.onnx").read_bytes()
    given = whole.golden_inputs, whole.golden_outputs
    return bundles.write(tmp_path / "patchtst", manifest, model, *given, folds=[path.read_bytes() for path in others])


def test_each_fold_speaks_from_its_test_part_until_the_next_and_the_model_for_the_rest(bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((40, *bundle.golden_inputs.shape[1:])).astype(np.float32)
    hours = np.arange(40)

    speaker = onnx(bundle)
    found = interpret(speaker.ask(windows, hours * HOUR_MS), speaker.temperatures)

    def alone(file: str, temperatures: list[float]) -> F64:
        return interpret(export.run((bundle.path / file).read_bytes(), windows), np.array(temperatures)).probabilities

    whole = alone("model.onnx", bundle.manifest.temperatures)
    first, second = (alone(f"fold-{k}.onnx", TEMPERATURES[k - 1]) for k in (1, 2))
    right = np.where((hours < 10)[:, None, None] | (hours >= 30)[:, None, None], whole, first)
    right = np.where(((hours >= 23) & (hours < 30))[:, None, None], second, right)
    np.testing.assert_allclose(found.probabilities, right, atol=1e-5)
    assert np.abs(first - whole).max() > 0.1 and np.abs(second - first).max() > 0.1


def test_a_copy_that_is_served_has_no_folds_and_is_whole(bundle: Bundle, tmp_path: Path) -> None:
    for name, file in contents(bundle.path).items():
        (tmp_path / "copy").mkdir(exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(file.read_bytes())

    copy = Bundle.load(tmp_path / "copy")

    assert copy.sha256 == bundle.sha256
    assert [fold.number for fold in walked(bundle)] == [1, 2] and walked(copy) == []


def test_a_bundle_written_anew_keeps_its_folds(bundle: Bundle) -> None:
    again = bundles.amend(bundle, program=b"program")

    assert again.has_program and [fold.number for fold in walked(again)] == [1, 2]


def test_a_fold_that_was_changed_is_refused(bundle: Bundle) -> None:
    (bundle.path / "fold-2.onnx").write_bytes(b"another")

    with pytest.raises(BundleError, match=r"fold-2\.onnx is not the file its manifest names"):
        onnx(bundle)
