"""Triton's `onnxruntime` backend in Python, for a wheel that lacks the native one. Knows nothing of candlecast.

It runs inside Triton's Python stub, in an environment of its own (numpy 1.x and onnxruntime only), and reads the very
config.pbtxt that NVIDIA's native `onnxruntime` backend reads, so a model repository serves under either unchanged.
"""

from __future__ import annotations

from typing import Any

import giving_way  # first of all: what follows takes long

# isort: split
import numpy as np
import onnxruntime as ort
import served_config
import triton_python_backend_utils as pb_utils

TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(double)": "TYPE_FP64",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
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
        config, path = served_config.read(args, "model.onnx")
        self.session = ort.InferenceSession(
            path, _options(config), providers=["CPUExecutionProvider"], disabled_optimizers=UNSAFE_OPTIMIZERS
        )
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        served_config.check("input", config["input"], _tensors(self.session.get_inputs()))
        served_config.check("output", config["output"], _tensors(self.session.get_outputs()))
        giving_way.done()

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
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(served_config.parameter(config, "intra_op_thread_count", "0"))
    options.inter_op_num_threads = int(served_config.parameter(config, "inter_op_thread_count", "0"))
    return options


def _tensors(nodes: list[Any]) -> dict[str, tuple[str, list[Any]]]:
    return {node.name: (TYPES.get(node.type, node.type), node.shape) for node in nodes}
