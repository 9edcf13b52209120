"""The reference of a bundle: of the features its model was fitted to, and of what it said behind them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from candlecast.errors import BundleError, ConfigurationError
from candlecast.interpret import interpret
from candlecast.models.bundle import FORECAST, MODEL, Bundle
from candlecast.models.reference import Part, Reference, Spread, Usual
from candlecast.training.data import Samples, prepare
from candlecast.training.sources import History, described, read_history
from candlecast.training.splits import Span
from candlecast.values import F32, F64, I64

ROWS_MAX: Final = 50_000
"""Of features, evenly spaced over the part that was fitted to."""
ANSWERS_MAX: Final = 24_000
"""Of the part behind it."""
BATCH_ROWS: Final = 1_024
DAYS: Final = (1, 7)
"""Lengths of the stretches whose distance is usual."""
SYMBOLS: Final = 4
"""In a stretch of few symbols; beside it stand those of all."""
STRETCHES_MAX: Final = 40
USUAL: Final = 0.9
"""Share of the stretches that are no further from the whole."""
STRETCH_ROWS: Final = 50, 2_000
"""Fewer differ by chance alone; more are thinned out."""
DAY_MS: Final = 86_400_000


def reference_of(
    samples: Samples, train: Span, behind: Span, stride: int, answer: Callable[[I64], F32], temperatures: F64
) -> Reference:
    """Measure what the drift of a model is held to.

    Args:
        train: what it was fitted to.
        behind: a later part, that it was not fitted to: of what it has seen it is surer than it will be.
        stride: bars from one sample of a symbol to the next: the rows between are looked at, too.
        answer: outputs [B, 20] of the model to the samples at index [B].
    """
    # Samples lie by symbol, each in the order of time.
    symbol = np.cumsum(np.diff(samples.open_time_ms, prepend=samples.open_time_ms[:1]) < 0, dtype=np.int64)
    fitted, later = train.of(samples.open_time_ms), behind.of(samples.open_time_ms)
    bars = np.arange(1, stride + 1)

    def rows(index: I64) -> F32:
        found: F32 = samples.rows[(samples.end[index][:, None] - bars).ravel()]
        return found

    spread = Spread.of(samples.newest(_thinned(fitted, ROWS_MAX)))
    features = Part(_span(train), spread, _usual(spread, fitted, samples.open_time_ms, symbol, stride, rows))
    asked = _thinned(later, ANSWERS_MAX)
    said = _predictions(answer, asked, temperatures)
    heard = Spread.of(said)
    of_answers = _usual(
        heard, np.arange(len(asked)), samples.open_time_ms[asked], symbol[asked], 1, lambda index: said[index]
    )
    return Reference(features, Part(_span(behind), heard, of_answers), tuple(temperatures.tolist()))


def of_bundle(bundle: Bundle, files: Sequence[Path]) -> Reference:
    """Measure the reference of a bundle that was trained before, on the candles that its manifest lists.

    Raises:
        BundleError: it is no forecaster, or its manifest does not say what it was trained on.
        ConfigurationError: the files are not those of its manifest.
    """
    from candlecast.training import export

    manifest, onnx = bundle.manifest, (bundle.path / MODEL).read_bytes()
    if bundle.target != FORECAST:
        raise BundleError(f"{bundle.path} is a model of {bundle.target}: drift is measured of forecasters")
    try:
        told, training = manifest.data, manifest.training
        train, behind = (_span_of(training["shipped"]["spans"][part]) for part in ("train", "validation"))
        stride, count = int(training["config"]["stride"]), int(training["samples"])
        history = _history(told, bundle, files)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle.path}: its manifest does not say what it was trained on ({error!r})") from error
    with tempfile.TemporaryDirectory(prefix="candlecast-reference-") as folder:
        samples = prepare(history, Path(folder), stride, lambda symbol: None)
        if len(samples) != count:
            raise ConfigurationError(
                f"the files give {len(samples)} samples, {bundle.path} was trained on {count}: this candlecast reads"
                " them in another way; train it again"
            )
        return reference_of(
            samples, train, behind, stride, lambda index: export.run(onnx, samples.windows(index)),
            np.array(manifest.temperatures),
        )  # fmt: skip


def _history(told: dict[str, Any], bundle: Bundle, files: Sequence[Path]) -> History:
    features = bundle.manifest.feature_set
    bundle.check_feature_set()
    names = {file["name"] for file in told["files"]}
    mine = [path for path in files if path.name in names]
    if lacking := sorted(names - {path.name for path in mine}):
        raise ConfigurationError(f"{bundle.path} was trained on {', '.join(lacking)}, too: name all of its files")
    history = read_history(
        mine,
        symbols=told["symbols"],
        start_ms=_ms(told["from"]),
        end_ms=_ms(told["to"]) + told["interval_ms"],
        optional_inputs=features.optional_inputs,
        reference_symbol=features.reference_symbol,
    )
    found = {file["name"]: file for file in described(history)["files"]}
    if other := [file["name"] for file in told["files"] if found.get(file["name"]) != file]:
        raise ConfigurationError(
            f"{', '.join(other)}: not the candles that {bundle.path} was trained on (sha256, rows or span differ)"
        )
    return history


def _predictions(answer: Callable[[I64], F32], index: I64, temperatures: F64) -> F32:
    """Return confidence and probabilities [N, 13] of the samples at index [N], as the server makes them."""
    parts = []
    for at in range(0, len(index), BATCH_ROWS):
        read = interpret(answer(index[at : at + BATCH_ROWS]), temperatures)
        parts.append(np.column_stack([read.confidence, read.probabilities.reshape(len(read.side), -1)]))
    return np.concatenate(parts).astype(np.float32)


def _usual(
    spread: Spread, index: I64, open_time_ms: I64, symbol: I64, bars: int, rows: Callable[[I64], F32]
) -> list[Usual]:
    """Measure stretches of the samples at index against all of them; each sample gives so many rows."""
    found = []
    every = np.unique(symbol[index])
    for days in DAYS:
        for symbols in sorted({min(SYMBOLS, len(every)), len(every)}):
            apart = [
                spread.apart(rows(_thinned(part, STRETCH_ROWS[1] // bars)))
                for part in _stretches(index, open_time_ms, symbol, days, every, symbols)
                if len(part) * bars >= STRETCH_ROWS[0]
            ]
            if apart:
                psi, ks = (np.quantile([one[i] for one in apart], USUAL, axis=0) for i in (0, 1))
                found.append(Usual(days, symbols, psi, ks))
    return found


def _stretches(index: I64, open_time_ms: I64, symbol: I64, days: int, every: I64, symbols: int) -> Iterator[I64]:
    """Yield the samples of stretches of so many whole days and symbols, spread over all of them."""
    number = (open_time_ms[index] - open_time_ms[index].min()) // (days * DAY_MS)
    group = np.searchsorted(every, symbol[index]) // symbols
    places = np.unique(np.column_stack([number, group]), axis=0)
    whole = places[(places[:, 0] < number.max()) & (places[:, 1] < len(every) // symbols)]
    for day, some in whole[_thinned(np.arange(len(whole)), STRETCHES_MAX)]:
        yield index[(number == day) & (group == some)]


def _thinned(index: I64, count_max: int) -> I64:
    """Return at most so many, evenly spaced."""
    if len(index) <= count_max:
        return index
    return index[np.linspace(0, len(index) - 1, count_max).astype(np.int64)]


def _span(span: Span) -> tuple[datetime, datetime]:
    begin, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (span.start_ms, span.end_ms))
    return begin, end


def _span_of(told: dict[str, str]) -> Span:
    return Span(_ms(told["from"]), _ms(told["before"]))


def _ms(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)
