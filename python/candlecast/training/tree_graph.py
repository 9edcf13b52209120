"""All trees of a model → one ONNX graph. Knows neither the libraries that grew them nor how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from candlecast.models.bundle import WINDOW
from candlecast.training.boosters import Tree
from candlecast.values import F32, I64

OPSET, ML_OPSET, IR_VERSION = 18, 3, 10


def tree_graph(
    trees: Sequence[tuple[int, Tree]],
    less: str,
    base: F32,
    unit: F32,
    floor: F32,
    features: int,
    *,
    link: str = "Identity",
) -> bytes:
    """Return `features` f32 [-1, 96, F] → `outputs` f32 [-1, K] = link(max((base + sum of trees) · unit, floor)).

    A newest row with a NaN or an infinity gets K NaN; its neighbours are untouched, and older rows are not read.

    Args:
        trees: each with the output that it adds to.
        less: the split rule of all of them, `BRANCH_LT` or `BRANCH_LEQ`.
        base, unit, floor: [K].
        link: an ONNX operator over the last axis.
    """
    count = len(base)
    constants = {
        "newest": np.array(WINDOW - 1),
        "base": base[None],
        "unit": unit[None],
        "floor": floor[None],
        "zero": np.array(0, np.float32),
        "columns": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["features", "newest"], ["row"], axis=1),  # [B, F]
        helper.make_node(
            "TreeEnsembleRegressor", ["row"], ["sums"], domain="ai.onnx.ml", **_ensemble(trees, less, count)
        ),
        helper.make_node("Add", ["sums", "base"], ["margins"]),
        helper.make_node("Mul", ["margins", "unit"], ["scaled"]),
        helper.make_node("Max", ["scaled", "floor"], ["floored"]),  # [B, K]
        helper.make_node(link, ["floored"], ["answers"]),
        # 0 for a finite row, NaN for any other: a split would make a forecast of it.
        helper.make_node("Mul", ["row", "zero"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros", "columns"], ["poison"], keepdims=1),  # [B, 1]
        helper.make_node("Add", ["answers", "poison"], ["outputs"]),
    ]
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WINDOW, features])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", count])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="candlecast")
    onnx.checker.check_model(model)
    return model.SerializeToString()


NOTHING: Final = Tree(
    0, np.array([-1]), np.zeros(1, np.float32), np.array([-1]), np.array([-1]), np.zeros(1, np.float32)
)


def _ensemble(trees: Sequence[tuple[int, Tree]], less: str, count: int) -> dict[str, Any]:
    """Return the attributes of one TreeEnsembleRegressor of `count` targets: all nodes of all trees in a row."""
    without = set(range(count)) - {output for output, _ in trees}
    whole = [*trees, *((output, NOTHING) for output in sorted(without))]
    sizes = [len(tree.feature) for _, tree in whole]
    feature = np.concatenate([tree.feature for _, tree in whole])
    is_leaf = feature < 0
    number: I64 = np.repeat(np.arange(len(whole)), sizes)  # of the tree
    node: I64 = np.concatenate([np.arange(size) for size in sizes])
    target: I64 = np.repeat([output for output, _ in whole], sizes)

    def branch(column: str) -> list[int]:
        children = np.concatenate([getattr(tree, column) for _, tree in whole])
        return np.where(is_leaf, 0, children).tolist()  # type: ignore[no-any-return]

    return {
        "n_targets": count,
        "nodes_treeids": number.tolist(),
        "nodes_nodeids": node.tolist(),
        "nodes_featureids": np.where(is_leaf, 0, feature).tolist(),
        "nodes_modes": np.where(is_leaf, "LEAF", less).tolist(),
        "nodes_values": np.where(is_leaf, 0, np.concatenate([tree.threshold for _, tree in whole])).tolist(),
        "nodes_truenodeids": branch("left"),
        "nodes_falsenodeids": branch("right"),
        "target_treeids": number[is_leaf].tolist(),
        "target_nodeids": node[is_leaf].tolist(),
        "target_ids": target[is_leaf].tolist(),
        "target_weights": np.concatenate([tree.value for _, tree in whole])[is_leaf].tolist(),
    }
