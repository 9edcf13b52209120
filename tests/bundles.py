"""Small bundles whose model runs, so that commands can be given them. No training made them, and they know nothing."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from candlecast import outputs
from candlecast.features import NAMES
from candlecast.models import bundle, ensemble
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble
from tests import fakes


def small_bundle(folder, *, seed=0, **manifest) -> Bundle:
    """Write a bundle: 20 sums over the newest row, bent to the size of outputs; the seed draws their weights."""
    features = len(NAMES)
    rng = np.random.default_rng(seed)
    scale = np.array([0.02] * 4 + [4] * 12 + [0.01] * 4, dtype=np.float32)
    weights = {
        "last": np.array(95),
        "zero": np.zeros((), np.float32),
        "mix": (rng.standard_normal((features, 20)) / 8).astype(np.float32),
        "scale": scale,
    }
    nodes = [
        helper.make_node("Gather", ["features", "last"], ["row"], axis=1),
        helper.make_node("IsNaN", ["row"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "row"], ["known"]),
        helper.make_node("Tanh", ["known"], ["bent"]),
        helper.make_node("MatMul", ["bent", "mix"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["small"]),
        helper.make_node("Mul", ["small", "scale"], ["outputs"]),
    ]
    tensor, float32 = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "small",
        [tensor("features", float32, [None, 96, features])],
        [tensor("outputs", float32, [None, 20])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    given = {"optional_inputs": ["reference"], "reference_symbol": "BTCUSDT"} | manifest
    fitting = fakes.fitting_bundle(folder, **given)
    return bundle.write(
        folder, fitting.manifest, model.SerializeToString(), fitting.golden_inputs, fitting.golden_outputs
    )


def small_ensemble(repository) -> Ensemble:
    """Write two bundles with other weights and temperatures, and the ensemble of both."""
    members = [
        small_bundle(repository / "patchtst/1", metrics=walked(1.0), temperatures=(1.0, 0.5, 2.0, 1.0)),
        small_bundle(repository / "lstm/2", seed=1, name="lstm", version=2, metrics=walked(1.05)),
    ]
    return ensemble.write(repository / "ensemble/1", ensemble.weigh(members, 1))


def walked(log_loss):
    """Return metrics whose walk-forward log-loss is this at each horizon, the base rate's 1.1."""
    horizons = {horizon: {"log_loss": {"model": log_loss, "base": 1.1}} for horizon in outputs.HORIZONS}
    return {"walk_forward": {"folds": [], "mean": {"horizons": horizons}}}


def answering_another_question(folder) -> Bundle:
    """Write a bundle of another target: it answers with three probabilities."""
    fitting = fakes.fitting_bundle(folder)
    fitting.manifest.training["target"] = {"name": "direction", "bars": 96}
    fitting.manifest.outputs["count"] = 3
    return bundle.write(folder, fitting.manifest, b"onnx", fitting.golden_inputs, np.zeros((4, 3), np.float32))
