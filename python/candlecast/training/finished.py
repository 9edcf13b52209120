"""Who is finished, on other data: the history it needs, and what it answers. Knows no torch and no metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from candlecast import outputs
from candlecast.errors import ConfigurationError
from candlecast.models.bundle import MODEL
from candlecast.training.data import Samples
from candlecast.training.runtime import opened
from candlecast.training.sources import History, read_history
from candlecast.training.subject import Subject
from candlecast.values import F32, Candles

BATCH_ROWS: Final = 64
"""Windows answered at once: 6 MB of features."""


def history_for(
    subject: Subject,
    data: Sequence[Path] | Candles,
    symbols: Sequence[str] | None,
    start_ms: int | None,
    end_ms: int | None,
) -> History:
    """Read candles as it was trained on: its interval, its optional inputs, its reference symbol beside.

    Raises:
        ConfigurationError: the files lack what it needs.
    """
    features, interval_ms = subject.features, subject.interval_ms

    def read(inputs: list[str]) -> History:
        return read_history(
            data,
            symbols=symbols,
            start_ms=start_ms,
            end_ms=end_ms,
            optional_inputs=inputs,
            reference_symbol=features.reference_symbol,
        )

    try:
        history = read(features.optional_inputs)
    except ConfigurationError:
        if features.reference_symbol is None:
            raise
        history = read([name for name in features.optional_inputs if name != "reference"])
        if history.symbols != [features.reference_symbol]:  # itself it is computed without a reference
            raise ConfigurationError(
                f"the bundle compares every symbol with {features.reference_symbol}: give its candle file too"
            ) from None
    if interval_ms not in (None, history.interval_ms):
        raise ConfigurationError(
            f"the files have candles of {history.interval_ms} ms, the bundle was trained on {interval_ms} ms:"
            " its horizons are counted in bars; give files of its interval"
        )
    return history


def answers(subject: Subject, samples: Samples, on_rows: Callable[[int], None]) -> F32:
    """Return what each member answers [M, N, 20] to all samples on the CPU, batch by batch.

    Args:
        on_rows: is told how many rows are done.
    """
    models = [opened(bundle.path / MODEL) for bundle in subject.members]
    found = np.empty((len(models), len(samples), outputs.COUNT), dtype=np.float32)
    for start in range(0, len(samples), BATCH_ROWS):
        index = np.arange(start, min(start + BATCH_ROWS, len(samples)))
        windows = samples.windows(index)
        for k, ask in enumerate(models):
            found[k, index] = ask(windows)
        on_rows(len(index))
    return found
