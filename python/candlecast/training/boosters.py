"""One gradient-boosted member by XGBoost or LightGBM, grown round by round. Knows no labels, no outputs and no ONNX.

Both are handed gradients, never labels: rows are binned once and shared by all members, whose margins start at 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from candlecast.values import F32, F64, I64

if TYPE_CHECKING:
    from candlecast.training.trees import TreesConfig

Slope = Callable[[F64], tuple[F64, F64]]
"""Margins [N, K] of the train rows → gradient and hessian [N, K] of the loss there."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of M nodes, the root first. A row goes left where its feature is `less` than the threshold."""

    column: int  # of the K margins, the one it adds to
    feature: I64  # [M] -1 at a leaf
    threshold: F32  # [M]
    left: I64  # [M] index of a node
    right: I64  # [M]
    value: F32  # [M] what a leaf adds


class Booster(Protocol):
    """The trees of one member: K margins for each row, 0 at first."""

    less: str
    """How `less` is meant, in the words of ONNX."""
    features: int

    def grow(self, slope: Slope) -> int:
        """Try to add a round, K trees, and return how many there are; it fails when no drawn feature can be split."""

    def held(self) -> F64:
        """Return the margins [V, K] of the held-out rows."""

    def keep(self, rounds: int) -> None:
        """Drop what was grown after so many rounds, and all that growing needed; with 0, ask for nothing any more."""

    def margins(self, rows: F32) -> F64:
        """Return the margins [N, K] of finite rows [N, F]."""

    def contributions(self, rows: F32) -> F64:
        """Return the SHAP values [N, K, F] of finite rows [N, F], by the library's own TreeSHAP."""

    def gain(self) -> F64:
        """Return what each feature's splits [F] took from the loss."""

    def trees(self) -> list[Tree]:
        """Return the trees, those of the first round first."""


Maker = Callable[[int, float, int], Booster]
"""K, the least sum of hessians in a leaf, seed → a booster without trees."""


def xgboost(rows: F32, held: F32, config: TreesConfig) -> Maker:
    """Bin train rows [N, F] and keep held-out ones [V, F] for boosters of XGBoost."""
    import xgboost as library

    binned = library.QuantileDMatrix(rows, max_bin=config.bins, nthread=config.threads)
    beside = library.DMatrix(held, nthread=config.threads)

    def make(width: int, weight_min: float, seed: int) -> Booster:
        parameters = {
            "objective": "reg:squarederror" if width == 1 else "multi:softprob",
            **({} if width == 1 else {"num_class": width}),
            "base_score": 0.0,  # else it is guessed from labels, of which there are none
            "tree_method": "hist",
            "eta": config.learning_rate,
            "max_depth": config.depth,
            "max_leaves": config.leaves,
            "max_bin": config.bins,
            "min_child_weight": weight_min,
            "lambda": config.l2,
            "subsample": config.subsample,
            "colsample_bytree": config.colsample,
            "nthread": config.threads,
            "seed": seed,
        }
        return _XGBoost(library, parameters, binned, beside, width)

    return make


class _XGBoost:
    less = "BRANCH_LT"

    def __init__(self, library: Any, parameters: dict[str, Any], binned: Any, held: Any, width: int) -> None:
        self._library, self._binned, self._held = library, binned, held
        self._width, self._threads, self.features = width, parameters["nthread"], int(binned.num_col())
        # Both matrices are in its cache: each round only the new trees are asked.
        self._booster = library.Booster(parameters, cache=[binned, held])

    def grow(self, slope: Slope) -> int:
        def asked(margins: F32, _: Any) -> tuple[F32, F32]:
            gradient, hessian = slope(margins.reshape(-1, self._width).astype(np.float64))
            return gradient.astype(np.float32).reshape(margins.shape), hessian.astype(np.float32).reshape(margins.shape)

        self._booster.update(self._binned, self._booster.num_boosted_rounds(), asked)
        return int(self._booster.num_boosted_rounds())

    def held(self) -> F64:
        margins = self._booster.predict(self._held, output_margin=True)
        return margins.reshape(-1, self._width).astype(np.float64)  # type: ignore[no-any-return]

    def keep(self, rounds: int) -> None:
        self._booster = self._booster[:rounds] if rounds else None
        self._binned = self._held = None

    def margins(self, rows: F32) -> F64:
        margins = self._booster.predict(self._matrix(rows), output_margin=True)
        return margins.reshape(-1, self._width).astype(np.float64)  # type: ignore[no-any-return]

    def contributions(self, rows: F32) -> F64:
        shap = self._booster.predict(self._matrix(rows), pred_contribs=True)
        return shap.reshape(-1, self._width, self.features + 1)[:, :, :-1].astype(np.float64)  # type: ignore[no-any-return]

    def gain(self) -> F64:
        gain = np.zeros(self.features)
        for name, value in self._booster.get_score(importance_type="total_gain").items():
            gain[int(name[1:])] = value  # "f17"
        return gain

    def trees(self) -> list[Tree]:
        model = json.loads(bytes(self._booster.save_raw("json")))["learner"]["gradient_booster"]["model"]
        return [_of_xgboost(tree, column) for tree, column in zip(model["trees"], model["tree_info"], strict=True)]

    def _matrix(self, rows: F32) -> Any:
        return self._library.DMatrix(rows, nthread=self._threads)


def _of_xgboost(tree: dict[str, Any], column: int) -> Tree:
    left = np.array(tree["left_children"], dtype=np.int64)
    conditions = np.array(tree["split_conditions"], dtype=np.float32)  # of a leaf: its value
    is_leaf = left < 0
    return Tree(
        column=column,
        feature=np.where(is_leaf, -1, np.array(tree["split_indices"], dtype=np.int64)),
        threshold=conditions,
        left=left,
        right=np.array(tree["right_children"], dtype=np.int64),
        value=conditions,
    )


def lightgbm(rows: F32, held: F32, config: TreesConfig) -> Maker:
    """Bin train rows [N, F] and held-out ones [V, F] for boosters of LightGBM."""
    import lightgbm as library

    shared = {
        "objective": "none",
        "metric": "none",
        "max_bin": config.bins,
        "min_data_in_leaf": 1,  # the sum of hessians decides, as in XGBoost
        "num_threads": config.threads,
        "deterministic": True,
        "force_col_wise": True,  # row-wise, each booster would hold a copy of the bins
        "verbosity": -1,
    }
    unused = np.zeros(max(len(rows), len(held)))
    binned = library.Dataset(rows, label=unused[: len(rows)], params=shared).construct()
    beside = library.Dataset(held, label=unused[: len(held)], params=shared, reference=binned).construct()

    def make(width: int, weight_min: float, seed: int) -> Booster:
        parameters = shared | {
            "num_class": width,
            "learning_rate": config.learning_rate,
            "max_depth": config.depth,
            "num_leaves": config.leaves,
            "min_sum_hessian_in_leaf": weight_min,
            "lambda_l2": config.l2,
            "bagging_freq": 1,
            "bagging_fraction": config.subsample,
            "feature_fraction": config.colsample,
            "seed": seed,
        }
        return _LightGBM(library.Booster(parameters, binned).add_valid(beside, "held"), width)

    return make


class _LightGBM:
    less = "BRANCH_LEQ"

    def __init__(self, booster: Any, width: int) -> None:
        self._booster, self._width, self._rounds = booster, width, 0
        self.features = int(booster.num_feature())

    def grow(self, slope: Slope) -> int:
        def asked(margins: F64, _: Any) -> tuple[F64, F64]:
            gradient, hessian = slope(margins.reshape(-1, self._width))
            return gradient.reshape(margins.shape), hessian.reshape(margins.shape)

        self._booster.update(fobj=asked)
        return int(self._booster.current_iteration())

    def held(self) -> F64:
        seen: list[F64] = []

        def look(margins: F64, _: Any) -> tuple[str, float, bool]:
            seen.append(margins.reshape(-1, self._width).copy())
            return "", 0.0, False

        self._booster.eval_valid(look)
        return seen[0]

    def keep(self, rounds: int) -> None:
        self._rounds = rounds
        self._booster.free_dataset()

    def margins(self, rows: F32) -> F64:
        margins = self._booster.predict(rows, raw_score=True, num_iteration=self._rounds)
        return margins.reshape(-1, self._width)  # type: ignore[no-any-return]

    def contributions(self, rows: F32) -> F64:
        shap = self._booster.predict(rows, pred_contrib=True, num_iteration=self._rounds)
        return shap.reshape(len(rows), self._width, -1)[:, :, :-1]  # type: ignore[no-any-return]

    def gain(self) -> F64:
        return self._booster.feature_importance("gain", iteration=self._rounds)  # type: ignore[no-any-return]

    def trees(self) -> list[Tree]:
        found = self._booster.dump_model(num_iteration=self._rounds)["tree_info"]
        return [_of_lightgbm(tree["tree_structure"], k % self._width) for k, tree in enumerate(found)]


TINY: Final = float(np.float32(1e-35))
"""LightGBM splits zero from the rest at this and at its negative."""


def _of_lightgbm(root: dict[str, Any], column: int) -> Tree:
    nodes = [root]
    feature, threshold, left, right, value = [], [], [], [], []
    for node in nodes:  # grows while it is walked: a node's children come behind all that were found before
        is_leaf = "leaf_value" in node
        feature.append(-1 if is_leaf else node["split_feature"])
        threshold.append(0.0 if is_leaf else node["threshold"])
        value.append(node["leaf_value"] if is_leaf else 0.0)
        left.append(-1 if is_leaf else len(nodes))
        right.append(-1 if is_leaf else len(nodes) + 1)
        if not is_leaf:
            nodes += node["left_child"], node["right_child"]
    return Tree(
        column=column,
        feature=np.array(feature),
        # The library reads what is within TINY as 0, TINY included: only what is below -TINY is left of a split there.
        threshold=floored(np.where(np.array(threshold) == -TINY, np.nextafter(-TINY, -1), threshold)),
        left=np.array(left),
        right=np.array(right),
        value=np.array(value, dtype=np.float32),
    )


def floored(thresholds: F64) -> F32:
    """Return the largest float32 not above each threshold: for a float32 x, x ≤ either is the same."""
    nearest = thresholds.astype(np.float32)
    down = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > thresholds, down, nearest)
