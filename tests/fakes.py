"""Stand-ins for unit tests, made to tell on the code: what they answer depends on every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from candlecast import _rust
from candlecast import features as feature_state
from candlecast.cache import ForecastCache
from candlecast.errors import ModelUnavailable
from candlecast.filters import Thresholds
from candlecast.forecaster import Forecaster
from candlecast.models import bundle
from candlecast.models.bundle import Bundle, FeatureSet, Manifest
from candlecast.portfolio import Limits, Portfolio
from candlecast.signals import Signals
from candlecast.values import Candles, Forecasts, Known, Missed, Model, Recorded


class FakeModel:
    """Answers a window with 20 numbers that only its newest row can give."""

    def __init__(self) -> None:
        self.broken = False
        self.rows = 0

    async def __call__(self, windows):
        if self.broken:
            raise ModelUnavailable("no model today")
        self.rows += len(windows)
        return self.answer(windows[:, -1, :])

    @staticmethod
    def answer(rows):
        """Return outputs [B, 20] of newest rows [B, F]."""
        mixed = np.cumsum(rows.astype(np.float64), axis=1)[:, -20:]
        fractions = 0.02 * np.abs(np.tanh(mixed))
        return np.column_stack([fractions[:, :4], mixed[:, 4:16], fractions[:, 16:]]).astype(np.float32)


class FakeRecorder:
    """Keeps rows in dictionaries under the keys of the tables."""

    def __init__(self) -> None:
        self.candles: dict[tuple[str, int, int], tuple[float, ...]] = {}
        self.forecasts: dict[tuple[str, int, int], np.ndarray] = {}
        self.missed: list[Missed] = []

    def admit(self, rows: int):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    async def record(self, candles: Candles | None, forecasts: Forecasts | None, missed=(), *, durable=True):
        self.missed += missed
        if candles is not None:
            for i, symbol in enumerate(candles.names):
                key = (symbol, int(candles.interval_ms[i]), int(candles.open_time_ms[i]))
                self.candles.setdefault(key, tuple(candles.values[i]))
        inserted = []
        for i in range(len(forecasts) if forecasts is not None else 0):
            key = (forecasts.names[i], int(forecasts.interval_ms[i]), int(forecasts.close_time_ms[i]))
            inserted.append(not forecasts.forming[i] and key not in self.forecasts)
            if not forecasts.forming[i]:
                self.forecasts.setdefault(key, forecasts.outputs[i])
        new = np.array(inserted, dtype=np.bool_)
        return Recorded(new=new, stored=np.zeros_like(new))

    async def settled(self):
        return None

    async def known(self, candles: Candles) -> list[Known]:
        answers = []
        for i, symbol in enumerate(candles.names):
            stored = self.candles.get((symbol, int(candles.interval_ms[i]), int(candles.open_time_ms[i])))
            same = stored is not None and np.array_equal(stored[:5], candles.values[i, :5])
            answers.append(Known.NOT_STORED if stored is None else Known.SAME if same else Known.OTHER_VALUES)
        return answers


def forecaster(
    features,
    model,
    recorder,
    *,
    rows_max=2_000,
    model_wait_ms=10_000,
    gate=None,
    gate_absent_passes=True,
    limits: Limits | None = None,
    cache_ttl_s=0.0,
    **more,
) -> Forecaster:
    """Return a Forecaster with default limits over stand-ins; without `limits` no filter remembers."""
    thresholds = Thresholds(gate_absent_passes=gate_absent_passes)
    portfolio = Portfolio(limits) if limits else None
    return Forecaster(
        features,
        model,
        recorder,
        model=Model("fake", 1, "0" * 64, feature_state.feature_set_hash()),
        temperatures=np.ones(4),
        thresholds=thresholds,
        batch_rows_max=12,
        batches_in_flight_max=2,
        rows_max=rows_max,
        model_wait_ms=model_wait_ms,
        gate=gate,
        signals=Signals(feature_state.NAMES, feature_state.STATES, thresholds, portfolio),
        cache=ForecastCache(ttl_s=cache_ttl_s, rows_max=1_000),
        **more,
    )


def fitting_bundle(
    path: Path,
    *,
    name="patchtst",
    version=1,
    optional_inputs=(),
    reference_symbol=None,
    metrics=None,
    temperatures=(1.0,) * 4,
    onnx=b"onnx",
    golden=None,
) -> Bundle:
    """Write a bundle trained on what this core computes; unless `onnx` is given, of a model that nobody can run."""
    columns = list(feature_state.NAMES)
    manifest = Manifest(
        name=name,
        version=version,
        created_at="2026-01-01T00:00:00Z",
        feature_set=FeatureSet(
            name=_rust.FEATURE_SET,
            hash=f"{feature_state.feature_set_hash(optional_inputs):016x}",
            columns=columns,
            optional_inputs=list(optional_inputs),
            reference_symbol=reference_symbol,
        ),
        data={},
        code_commit="unknown",
        training={},
        metrics=metrics or {},
        temperatures=list(temperatures),
    )
    windows = np.zeros((4, feature_state.WINDOW, len(columns)), dtype=np.float32)
    inputs, answers = golden or (windows, np.zeros((4, 20), dtype=np.float32))
    return bundle.write(path, manifest, onnx, inputs, answers)
