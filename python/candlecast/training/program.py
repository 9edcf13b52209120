"""PatchTST → a torch.export program (model.pt2), and back from an ONNX file of ours. Knows no Triton and no bundle.

model.pt2 is a zip archive: the graph as JSON (torch's ATen operators), each weight as raw bytes, its trunk in fp16, no
example inputs. torch.export.load would unpickle example inputs, tensor subclasses and custom objects; ours has none, so
reading it unpickles nothing, and the `pytorch` backend refuses files that have some.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from candlecast.errors import BundleError
from candlecast.models.bundle import WINDOW
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.values import F32

Array = NDArray[Any]
ROWS_MAX = 1024
"""Rows in one run of the program."""
NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What the exporter writes beside each node: traces with paths of this machine."""


def to_program(model: PatchTST) -> bytes:
    """Return the model as one .pt2: `features` f32 [1..1024, 96, F] → f32 [-1, 20], its trunk in fp16."""
    half = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    half.trunk.half()
    example = torch.zeros(2, WINDOW, len(model.mean))
    rows = torch.export.Dim("batch", min=1, max=ROWS_MAX)
    program = torch.export.export(half, (example,), dynamic_shapes=({0: rows},))
    program.example_inputs = None  # they would be pickled
    for node in program.graph.nodes:
        for note in NOTES:
            node.meta.pop(note, None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def run(program: bytes, windows: F32, batch_rows: int = 64) -> F32:
    """Return what the program answers [B, 20] to windows [B, 96, F], on the CPU, in fp16 as on a GPU."""
    module = torch.export.load(io.BytesIO(program)).module()
    parts = torch.split(torch.from_numpy(windows), batch_rows)
    with torch.inference_mode():
        return torch.cat([module(part) for part in parts]).numpy()


def from_onnx(content: bytes, config: NetworkConfig) -> PatchTST:
    """Rebuild the model from an ONNX file that `export.to_onnx` wrote: every weight bit by bit, as an fp32 module.

    The exporter transposes and numbers most matrices, and gives equal tensors one name. So layers are found by their
    order, which is that of the network; only what belongs to no layer goes by its name.

    Raises:
        BundleError: it is not such a file, or of another network.
    """
    try:
        graph = onnx.load_from_string(content).graph
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        model = PatchTST(config, len(tensors["mean"]))
        found = {name: tensors[name] for name in ("mean", "std", "unit", "trunk.position")}
        for name, (weight, bias) in zip(_layers(config), _layer_tensors(graph, tensors), strict=True):
            found |= {f"trunk.{name}.weight": weight, f"trunk.{name}.bias": bias}
        if wrong := [name for name, tensor in found.items() if tensor.dtype != _kind(name)]:
            raise BundleError(f"the ONNX file's {', '.join(wrong)} is not of the type that this exporter writes")
        model.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in found.items()})
    except (LookupError, ValueError, RuntimeError, DecodeError) as error:
        raise BundleError(f"the ONNX file is not one that this network was exported to: {error}") from error
    return model.eval()


def _layers(config: NetworkConfig) -> list[str]:
    """Return the names of the layers with weight and bias, as they are run."""
    block = ("attention_norm", "attention.qkv", "attention.out", "feedforward_norm", "feedforward.0", "feedforward.3")
    return ["embed", *(f"blocks.{k}.{part}" for k in range(config.layers) for part in block), "norm", "head"]


def _layer_tensors(graph: onnx.GraphProto, tensors: dict[str, Array]) -> Iterator[tuple[Array, Array]]:
    """Yield weight and bias of every layer, as torch has them, in the order of the graph."""
    users = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type in ("LayerNormalization", "Gemm"):  # Gemm has transB: the matrix as torch has it
            yield tensors[node.input[1]], tensors[node.input[2]]
        elif node.op_type == "MatMul" and node.input[1] in tensors:
            (bias,) = (name for name in users[node.output[0]].input if name in tensors)
            yield tensors[node.input[1]].T, tensors[bias]


def _kind(name: str) -> type:
    return np.float16 if name.startswith("trunk.") else np.float32
