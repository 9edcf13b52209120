"""A gate small enough for tests, and its bundle: the probability is the logistic of a weighted sum."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from candlecast.gate import FEATURES
from candlecast.models import gate_bundle
from candlecast.models.gate_bundle import GOLDEN_ROWS, GateManifest
from candlecast.triton.repository import write_gate_config

WEIGHTS = np.array([2.0, -1.0, 0.7], dtype=np.float32)


def probability(features):
    """Return p(revert) [B] of features [B, 3]."""
    return 1 / (1 + np.exp(-np.asarray(features, dtype=np.float64) @ WEIGHTS.astype(np.float64)))


def model() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["revert"]),
        helper.make_node("Sub", ["one", "revert"], ["hold"]),
        helper.make_node("Concat", ["hold", "revert"], ["probabilities"], axis=1),
    ]
    constants = {"weights": WEIGHTS[:, None], "one": np.ones(1, dtype=np.float32)}
    graph = helper.make_graph(
        nodes,
        "gate",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(FEATURES)])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def write(folder, *, simulated=False, version=1, wrong=0.0):
    """Write the bundle and its configuration into a model's folder of a repository, and return it.

    Its golden outputs are `wrong` by so much.
    """
    inputs = np.random.default_rng(3).uniform(-1, 1, (GOLDEN_ROWS, len(FEATURES))).astype(np.float32)
    p = probability(inputs) + wrong
    manifest = GateManifest(
        version=version,
        created_at="2026-01-01T00:00:00Z",
        simulated=simulated,
        threshold=0.65,
        label={},
        data={},
        code_commit="unknown",
        training={},
        metrics={},
    )
    bundle = gate_bundle.write(
        folder / str(version), manifest, model(), inputs, np.column_stack([1 - p, p]).astype(np.float32), {}, {}
    )
    write_gate_config(folder)
    return bundle
