"""Two bundles on candles that neither was trained on: what each would have said, compared. Knows no rollout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from candlecast.errors import ConfigurationError
from candlecast.features import Features
from candlecast.filters import Thresholds, judge
from candlecast.interpret import interpret
from candlecast.models.bundle import MODEL, Bundle
from candlecast.training.comparison import Comparison, Judged, compare
from candlecast.training.data import Samples, prepare
from candlecast.training.sources import History, read_history
from candlecast.training.splits import EMBARGO_BARS
from candlecast.values import F32, F64, Candles, Heard, Spoken

STRIDE: Final = 1
"""Every candle: there are few of them that neither bundle knows."""
BATCH_ROWS: Final = 64


def contest(
    champion: Bundle,
    challenger: Bundle,
    data: Sequence[Path] | Candles,
    *,
    costs: float,
    margin: float,
    thresholds: Thresholds,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Compare two bundles on the newest candles, after all that either was trained on; without any nothing is known.

    Args:
        data: candle files, or candles; both bundles' optional inputs and reference symbol among them.
        costs, margin: as of `compare`.

    Raises:
        BundleError: the core computes other features than one was trained on.
    """
    bundles = champion, challenger
    names = _title(champion), _title(challenger)
    known_ms = max(_ms(bundle.manifest.data["to"]) for bundle in bundles)
    interval_ms = int(challenger.manifest.data["interval_ms"])
    since_ms = known_ms + EMBARGO_BARS * interval_ms
    # The window of the first candle that counts has to be complete.
    warm_up_ms = Features(symbols_max=1, conflicts_max=1).need * interval_ms
    spoken: list[Spoken] = []
    samples: list[Samples] = []
    with tempfile.TemporaryDirectory(prefix="candlecast-contest-") as folder:
        for number, bundle in enumerate(bundles):
            bundle.check_feature_set()
            place = Path(folder) / str(number)
            place.mkdir()
            try:
                history = _history(bundle, data, since_ms - warm_up_ms)
                newest = prepare(history, place, STRIDE, lambda symbol: None).since(since_ms)
            except ConfigurationError as error:
                return Comparison.empty(names, {f"candles of {_title(bundle)}: {error}": 0})
            if not len(newest):
                return Comparison.empty(names, {f"no candle is newer than what both know by {EMBARGO_BARS} bars": 0})
            say(f"{_title(bundle)}: {len(newest)} candles that neither version was trained on")
            samples.append(newest)
            spoken.append(said(_answers(bundle, newest), np.array(bundle.manifest.temperatures), thresholds))
        first, second = samples
        if len(first) != len(second) or (first.open_time_ms != second.open_time_ms).any():
            return Comparison.empty(names, {"one has windows where the other has none": abs(len(first) - len(second))})
        # One symbol follows the other, each in time order to the same end.
        symbol = np.cumsum(np.diff(second.open_time_ms, prepend=0) <= 0, dtype=np.int64)
        heard = [Heard(symbol, second.open_time_ms + interval_ms, one) for one in spoken]
        old, new = (Judged(one, second.labels) for one in heard)
        return compare(old, new, interval_ms, names=names, costs=costs, margin=margin)


def said(answers: F32, temperatures: F64, thresholds: Thresholds) -> Spoken:
    """Return what a model says with outputs [N, 20], all symbols READY and no gap: as a backtest has it."""
    meaning = interpret(answers, temperatures)
    ready, whole = np.zeros(len(answers), dtype=np.uint8), np.zeros(len(answers), dtype=np.bool_)
    side = judge(meaning, ready, whole, thresholds, states=("READY",)).direction
    return Spoken(meaning.probabilities, meaning.returns, meaning.risks, side, np.full(len(answers), np.nan))


def _history(bundle: Bundle, data: Sequence[Path] | Candles, start_ms: int) -> History:
    features = bundle.manifest.feature_set
    return read_history(
        data,
        symbols=bundle.manifest.data["symbols"],
        start_ms=start_ms,
        optional_inputs=features.optional_inputs,
        reference_symbol=features.reference_symbol,
    )


def _answers(bundle: Bundle, samples: Samples) -> F32:
    """Return what model.onnx answers [N, 20], one thread, batch by batch: whoever serves has the other cores."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.path / MODEL, options, providers=["CPUExecutionProvider"])
    parts = np.array_split(np.arange(len(samples)), -(-len(samples) // BATCH_ROWS))
    return np.concatenate([session.run(["outputs"], {"features": samples.windows(part)})[0] for part in parts])


def _title(bundle: Bundle) -> str:
    return f"{bundle.manifest.name} v{bundle.manifest.version}"


def _ms(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)
