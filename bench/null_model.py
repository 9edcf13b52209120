"""A model that does next to nothing, in the shapes of the real one: what is left is the cost of all around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from candlecast import outputs
from candlecast.models import bundle
from candlecast.models.bundle import Bundle
from candlecast.triton.repository import write_config

OPSET, IR = 17, 9
SCALE = np.float32(0.01)


def write_null_repository(repository: Path, like: Bundle) -> Bundle:
    """Write a model repository whose model answers the first 20 columns of a window's newest row, × 0.01."""
    folder = repository / like.manifest.name
    folder.mkdir(parents=True)
    rows, columns = like.golden_inputs.shape[1:]
    write_config(folder, like.manifest.name, rows, columns, outputs.COUNT)
    golden = np.ascontiguousarray(like.golden_inputs[:, -1, : outputs.COUNT] * SCALE)
    manifest = replace(like.manifest, version=1, files={})
    return bundle.write(folder / "1", manifest, _model(rows, columns), like.golden_inputs, golden)


def _model(rows: int, columns: int) -> bytes:
    constants = {
        "row": np.array(rows - 1, dtype=np.int64),
        "from": np.array([0], dtype=np.int64),
        "to": np.array([outputs.COUNT], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
        "scale": np.array(SCALE),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["features", "row"], ["newest"], axis=1),
            helper.make_node("Slice", ["newest", "from", "to", "axis"], ["first"]),
            helper.make_node("Mul", ["first", "scale"], ["outputs"]),
        ],
        "nothing",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", rows, columns])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["batch", outputs.COUNT])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return bytes(model.SerializeToString())
