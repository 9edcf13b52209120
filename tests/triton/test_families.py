"""Bundles of trees and of an LSTM, as the recipe writes them, through the real tritonserver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from candlecast import outputs
from candlecast.models.bundle import Bundle
from candlecast.training import export
from candlecast.training.config import Config
from candlecast.training.fit import FitConfig
from candlecast.training.lstm import LstmConfig
from candlecast.training.train import train
from candlecast.training.trees import TreesConfig
from candlecast.triton.client import TritonModel
from candlecast.triton.embedded import EmbeddedTriton
from candlecast.triton.repository import write_config
from tests.training.conftest import simulate
from tests.triton.conftest import ENV_DIR, F32

KINDS = ("lightgbm", "xgboost", "lstm")
CONFIG = Config(
    folds=1,
    stride=3,
    lstm=LstmConfig(width=16, layers=1),
    fit=FitConfig(epochs=1, batch_rows=64, threads=1),
    trees=TreesConfig(rounds_max=5, learning_rate=0.3, rows_min=20, threads=1),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("families")
    simulate(1, 2400).write_parquet(root / "AAAUSDT-15m.parquet")
    for kind in KINDS:
        bundle = train(kind, [root / "AAAUSDT-15m.parquet"], root / "repository" / kind / "1", config=CONFIG)
        columns = len(bundle.manifest.feature_set.columns)
        write_config(root / "repository" / kind, kind, 96, columns, outputs.COUNT)
    return root / "repository"


@pytest.fixture(scope="module")
async def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    work_dir = tmp_path_factory.mktemp("work")
    async with EmbeddedTriton(
        env_dir=ENV_DIR, repository=repository, models=list(KINDS), work_dir=work_dir, start_timeout_ms=120_000
    ) as triton:
        yield triton


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_served_by_the_same_configuration_with_the_answers_of_its_bundle(
    triton: EmbeddedTriton, repository: Path, kind: str
) -> None:
    bundle = Bundle.load(repository / kind / "1")
    file = (bundle.path / "model.onnx").read_bytes()
    async with TritonModel(triton.address, kind, timeout_ms=20_000) as model:
        assert await model.check_golden(bundle.golden_inputs, bundle.golden_outputs) == "1"
        batches = [_moved(bundle.golden_inputs, rows, seed=rows) for rows in (1, 2, 7, 16, 33, 64)]
        answers = await asyncio.gather(*map(model.infer, batches))
        for sent, answer in zip(batches, answers, strict=True):
            np.testing.assert_allclose(answer.outputs, export.run(file, sent), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_newest_row_with_nan_is_no_forecast_and_its_neighbours_are(
    triton: EmbeddedTriton, repository: Path, kind: str
) -> None:
    bundle = Bundle.load(repository / kind / "1")
    sent = _moved(bundle.golden_inputs, 9, seed=1)
    async with TritonModel(triton.address, kind, timeout_ms=20_000) as model:
        right = (await model.infer(sent)).outputs
        sent[4, -1, 3] = np.nan
        found = (await model.infer(sent)).outputs
    assert np.isnan(found[4]).all()
    others = [k for k in range(9) if k != 4]
    np.testing.assert_allclose(found[others], right[others], rtol=1e-5, atol=1e-6)


def _moved(windows: F32, rows: int, seed: int) -> F32:
    """Return so many windows like these, each value moved by a thousandth."""
    rng = np.random.default_rng(seed)
    chosen = windows[rng.integers(0, len(windows), rows)]
    return (chosen * rng.uniform(0.999, 1.001, chosen.shape)).astype(np.float32)
