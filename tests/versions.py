"""Further versions of the shipped model, for tests of rollouts: each says what it is by its numbers."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from candlecast.models.bundle import MODEL, Bundle, write
from candlecast.settings import CHECKOUT

SHIPPED = CHECKOUT / "triton_models" / "patchtst" / "1"
MARKED, MARK = 16, 1e-3
"""The output that says which version it is of, as so many times the version: max_drawdown_1h."""


def repository(root: Path) -> Path:
    """Return a repository of one's own with the shipped models."""
    shutil.copytree(CHECKOUT / "triton_models", root / "models", ignore=shutil.ignore_patterns(".*"))
    for path in (root / "models" / "patchtst").iterdir():
        if path.name.isdigit() and path.name != "1":
            shutil.rmtree(path)
    return root / "models"


def variant(to: Path, version: int, *, nan_unless_golden: bool = False) -> Bundle:
    """Write the shipped model as another version, which says so in one of its outputs.

    Args:
        nan_unless_golden: it is right on the golden inputs, and not finite on all others.
    """
    shipped = Bundle.load(SHIPPED)
    kept, mark = np.ones(20, np.float32), np.zeros(20, np.float32)
    kept[MARKED], mark[MARKED] = 0, MARK * version
    model = onnx.load_from_string((SHIPPED / MODEL).read_bytes())
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["before" if name == "outputs" else name for name in node.output]
        node.input[:] = ["before" if name == "outputs" else name for name in node.input]
    graph.initializer.extend([numpy_helper.from_array(kept, "kept"), numpy_helper.from_array(mark, "mark")])
    graph.node.append(helper.make_node("Mul", ["before", "kept"], ["others"]))
    graph.node.append(helper.make_node("Add", ["others", "mark"], ["marked" if nan_unless_golden else "outputs"]))
    if nan_unless_golden:
        marks = shipped.golden_inputs[:, -1, 0]
        constants = {
            "marks": marks,
            "last": np.array([shipped.golden_inputs.shape[1] - 1]),
            "first": np.array([0]),
            "nan": np.float32(np.nan),
            "axes": np.array([1]),
        }
        graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
        graph.node.extend(
            [
                helper.make_node("Gather", ["features", "last"], ["newest"], axis=1),  # [B, 1, F]
                helper.make_node("Gather", ["newest", "first"], ["seen"], axis=2),  # [B, 1, 1]
                helper.make_node("Squeeze", ["seen", "axes"], ["flat"]),  # [B, 1]
                helper.make_node("Equal", ["flat", "marks"], ["equal"]),  # [B, 4]
                helper.make_node("Cast", ["equal"], ["counted"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMax", ["counted", "axes"], ["known"], keepdims=1),
                helper.make_node("Cast", ["known"], ["is_golden"], to=TensorProto.BOOL),
                helper.make_node("Where", ["is_golden", "marked", "nan"], ["outputs"]),
            ]
        )
    onnx.checker.check_model(model)
    manifest = type(shipped.manifest)(
        **asdict(shipped.manifest) | {"version": version, "feature_set": shipped.manifest.feature_set}
    )
    return write(to, manifest, model.SerializeToString(), shipped.golden_inputs, shipped.golden_outputs * kept + mark)
