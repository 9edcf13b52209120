"""The gate's model: scaler and boosted trees by scikit-learn, chosen on purged folds, as ONNX. Knows no files.

Rows of trades are near copies of their neighbours, and exact boosting takes time in proportion to them. So a fit takes
at most so many rows, evenly spaced over its time; what is scored is not thinned but beyond SCORED_ROWS_MAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any, Final

import numpy as np

from candlecast.errors import BundleError
from candlecast.training.gate_data import Samples, TooLittle
from candlecast.values import F32, F64, I64

FOLDS: Final = 5
FOLD_ROWS_MIN: Final = 50
"""In each part of a fold; a fold with fewer, or with one class, is left out."""
SCORED_ROWS_MAX: Final = 20_000
PARITY_MAX: Final = 1e-5
OPSET: Final = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True, slots=True)
class Params:
    n_estimators: int
    max_depth: int
    learning_rate: float
    subsample: float


@dataclass(frozen=True, slots=True)
class Grid:
    """What is tried: every combination."""

    n_estimators: tuple[int, ...] = (50, 100, 200)
    max_depth: tuple[int, ...] = (3, 5, 7)
    learning_rate: tuple[float, ...] = (0.01, 0.1, 0.2)
    subsample: tuple[float, ...] = (0.8, 0.9, 1.0)

    def params(self) -> list[Params]:
        """Return all combinations."""
        return [Params(*values) for values in product(*asdict(self).values())]


GRIDS: Final = {
    "full": Grid(),
    "small": Grid(n_estimators=(50, 100), max_depth=(3,), learning_rate=(0.1,), subsample=(0.8, 1.0)),
}


@dataclass(frozen=True, slots=True)
class Scored:
    """One combination and its ROC AUC on each fold that could be scored."""

    params: Params
    auc: list[float]

    @property
    def mean(self) -> float:
        return float(np.mean(self.auc))


def fit(samples: Samples, params: Params, rows_max: int, seed: int) -> Any:
    """Return the fitted pipeline: StandardScaler and GradientBoostingClassifier; float32 in, as it is served."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    thinned = samples.take(thin(len(samples), rows_max))
    classifier = GradientBoostingClassifier(**asdict(params), random_state=seed)
    return make_pipeline(StandardScaler(), classifier).fit(thinned.features, thinned.labels)


def purged_folds(ts: I64, gap_ms: int, folds: int = FOLDS) -> Iterator[tuple[I64, I64]]:
    """Yield (train, test) of chronological folds over times [N] in order: each is tested on what comes after its train.

    There are folds + 1 parts of as many rows; of each train part the newest gap_ms are left out, so that no label
    before the border and no feature after it share a trade.
    """
    edges = [int(ts[len(ts) * k // (folds + 1)]) for k in range(1, folds + 1)] + [int(ts[-1]) + 1]
    for start, stop in pairwise(edges):
        test = np.flatnonzero((ts >= start) & (ts < stop))
        yield np.flatnonzero(ts < start - gap_ms), test


def held_out(ts: I64, gap_ms: int, share: float) -> tuple[I64, I64]:
    """Return (train, test): the newest share of the times [N] in order, and what is gap_ms before it."""
    start = int(ts[len(ts) - max(int(len(ts) * share), 1)])
    return np.flatnonzero(ts < start - gap_ms), np.flatnonzero(ts >= start)


def search(
    samples: Samples,
    grid: Grid,
    gap_ms: int,
    rows_max: int,
    seed: int,
    on_scored: Callable[[int], None] = lambda count: None,
) -> tuple[Params, list[Scored], int]:
    """Return the combination with the best mean ROC AUC over the folds, all of them, best first, and the folds scored.

    Boosting with fewer trees is the beginning of boosting with more, so combinations that differ in n_estimators alone
    share a fit. `on_scored` is told how many combinations × folds more are done.

    Raises:
        TooLittle: no fold has enough rows and both classes on both sides.
    """
    from sklearn.metrics import roc_auc_score

    folds = [fold for fold in purged_folds(samples.ts, gap_ms) if all(_can_score(samples, part) for part in fold)]
    if not folds:
        raise TooLittle(
            f"{len(samples)} samples are too few, too close in time or too one-sided for a fold with {FOLD_ROWS_MIN}"
            f" rows and both classes on both sides of a gap of {gap_ms / 1000:g} s; give longer recordings"
        )
    scored: dict[Params, list[float]] = {params: [] for params in grid.params()}
    on_scored((FOLDS - len(folds)) * len(scored))
    stages = sorted(grid.n_estimators)
    for most in [params for params in scored if params.n_estimators == stages[-1]]:
        for train, test in folds:
            pipeline = fit(samples.take(train), most, rows_max, seed)
            shown = samples.take(test[thin(len(test), SCORED_ROWS_MAX)])
            staged = pipeline[-1].staged_predict_proba(pipeline[0].transform(shown.features))
            for trees, probabilities in enumerate(staged, start=1):
                if trees in stages:
                    params = Params(**asdict(most) | {"n_estimators": trees})
                    scored[params].append(float(roc_auc_score(shown.labels, probabilities[:, 1])))
            on_scored(len(stages))
    ranked = sorted((Scored(params, auc) for params, auc in scored.items()), key=lambda one: one.mean, reverse=True)
    return ranked[0].params, ranked, len(folds)


def thin(count: int, rows_max: int) -> I64:
    """Return at most rows_max indices into count rows, evenly spaced."""
    if count <= rows_max:
        return np.arange(count)
    return np.linspace(0, count - 1, rows_max).astype(np.int64)


def to_onnx(pipeline: Any) -> bytes:
    """Return the graph features f32 [-1, 3] → probabilities f32 [-1, 2].

    The scaler divides, as scikit-learn does in float32: multiplied by a reciprocal, a value next to a threshold of a
    tree can land on its other side, and answers differ by 0.09 (measured).
    """
    from skl2onnx import to_onnx as convert
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    options = {id(pipeline[0]): {"div": "div"}, id(pipeline[-1]): {"zipmap": False}}
    features = pipeline.n_features_in_
    graph = convert(
        pipeline,
        initial_types=[("features", FloatTensorType([None, features]))],
        options=options,
        target_opset=OPSET,
        name="gate",
    )
    alone = select_model_inputs_outputs(graph, outputs=["probabilities"])  # which forgets the output's shape
    alone.graph.output[0].CopyFrom(next(out for out in graph.graph.output if out.name == "probabilities"))
    content: bytes = alone.SerializeToString()
    return content


def run_onnx(model: bytes, features: F32) -> F32:
    """Return what the graph answers [N, 2] to features [N, 3], by ONNX Runtime with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    answers: F32 = session.run(["probabilities"], {"features": features})[0]
    return answers


def check_parity(pipeline: Any, model: bytes, features: F32) -> float:
    """Return the largest difference between the graph and the pipeline over features [N, 3].

    Raises:
        BundleError: it is above PARITY_MAX.
    """
    difference = float(np.abs(run_onnx(model, features) - pipeline.predict_proba(features)).max())
    if not difference <= PARITY_MAX:
        raise BundleError(f"the ONNX file differs from scikit-learn by {difference:.1e}, more than {PARITY_MAX:.0e}")
    return difference


def parity_rows(features: F32, rows: int, seed: int) -> F32:
    """Return rows to compare on: half real ones [N, 3] drawn again, half between and beyond what they reach."""
    rng = np.random.default_rng(seed)
    real = features[rng.integers(0, len(features), rows // 2)]
    low, high = features.min(axis=0), features.max(axis=0)
    margin = 0.25 * (high - low)
    spread = rng.uniform(low - margin, high + margin, (rows - len(real), features.shape[1]))
    return np.concatenate([real, spread.astype(np.float32)])


def gain(pipeline: Any) -> F64:
    """Return each feature's share [3] in the gain of the splits; they sum to 1."""
    shares: F64 = pipeline[-1].feature_importances_
    return shares


def has_both(labels: Sequence[int] | Any) -> bool:
    """Say whether labels [N] have both classes."""
    return len(np.unique(labels)) == 2


def _can_score(samples: Samples, part: I64) -> bool:
    return len(part) >= FOLD_ROWS_MIN and has_both(samples.labels[part])
