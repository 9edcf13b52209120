"""Triton's `onnxruntime` backend in Python, for a wheel that lacks the native one. Knows nothing of candlecast.

It runs inside Triton's Python stub, in an environment of its own (numpy 1.x and onnxruntime only), and reads the very
config.pbtxt that NVIDIA's native `onnxruntime` backend reads, so a model repository serves under either unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
"""The ONNX tensor types this backend serves."""

UNSAFE_OPTIMIZERS = ["NchwcTransformer"]
"""It speeds up convolutions only, and kills the process on a transposed float16 MatMul (onnxruntime 1.23 to 1.31)."""


class TritonPythonModel:
    """One instance of one model version: an ONNX Runtime session on the CPU."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's ONNX file and compare its tensors with config.pbtxt.

        Raises:
            ValueError: the file is damaged or its tensors differ from config.pbtxt; Triton then refuses the version.
        """
        if int(np.__version__.split(".")[0]) != 1:
            raise ValueError(f"this stub corrupts tensors under numpy {np.__version__}: give it numpy 1.26")
        config = json.loads(args["model_config"])
        if config["max_batch_size"] < 1:
            raise ValueError("config.pbtxt: max_batch_size is missing, and this backend serves batches only")
        name = config.get("default_model_filename") or "model.onnx"
        path = Path(args["model_repository"]) / args["model_version"] / name
        self.session = ort.InferenceSession(
            path, _options(config), providers=["CPUExecutionProvider"], disabled_optimizers=UNSAFE_OPTIMIZERS
        )
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        _check("input", config["input"], self.session.get_inputs())
        _check("output", config["output"], self.session.get_outputs())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests of a dynamic batch as one, rows in request order, and hand each its own rows."""
        feeds = {name: _joined([_array(request, name) for request in requests]) for name in self.inputs}
        results = self.session.run(self.outputs, feeds)
        responses, start = [], 0
        for request in requests:
            stop = start + len(_array(request, self.inputs[0]))
            tensors = [pb_utils.Tensor(name, results[k][start:stop]) for k, name in enumerate(self.outputs)]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses


def _array(request: Any, name: str) -> Any:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def _joined(arrays: list[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _options(config: dict[str, Any]) -> ort.SessionOptions:
    """Read the thread counts as the native backend spells them; 0 means one thread per core, as there."""
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 0))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 0))
    return options


def _check(side: str, configured: list[dict[str, Any]], actual: list[Any]) -> None:
    """Refuse a model whose tensors are not what config.pbtxt promises; -1 and symbolic dimensions fit anything."""
    tensors = {tensor.name: tensor for tensor in actual}
    for wanted in configured:
        name = wanted["name"]
        if name not in tensors:
            raise ValueError(f"{side} {name!r} of config.pbtxt is not in the model, which has {sorted(tensors)}")
        promised = [-1] + [int(size) for size in wanted["dims"]]
        found = [size if isinstance(size, int) else -1 for size in tensors[name].shape]
        fits = len(promised) == len(found) and all(
            promised[k] == found[k] or -1 in (promised[k], found[k]) for k in range(len(found))
        )
        same = NUMPY_TYPES.get(tensors[name].type) == pb_utils.triton_string_to_numpy(wanted["data_type"])
        if not fits or not same:
            raise ValueError(
                f"{side} {name!r} is {tensors[name].type} {tensors[name].shape} in the model, "
                f"{wanted['data_type']} {promised} in config.pbtxt"
            )
