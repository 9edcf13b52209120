"""PatchTST → a torch.export program (model.pt2), and back from an ONNX file of ours. Knows no Triton and no bundle.

model.pt2 is a zip archive: the graph as JSON (torch's ATen operators), each weight as raw bytes, its trunk in fp16, no
example inputs. torch.export.load would unpickle example inputs, tensor subclasses and custom objects; ours has none, so
reading it unpickles nothing, and the `pytorch` backend refuses files that have some.
"""

from __future__ import annotations

import copy
import io

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from candlecast.errors import BundleError
from candlecast.models.bundle import WINDOW
from candlecast.training.patchtst import NetworkConfig, PatchTST
from candlecast.values import F32

ROWS_MAX = 1024
"""Rows in one run of the program."""
NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""What the exporter writes beside each node: traces with paths of this machine."""


def to_program(model: PatchTST) -> bytes:
    """Return the model as one .pt2: `features` f32 [1..1024, 96, F] → f32 [-1, 20], its trunk in fp16."""
    half = copy.deepcopy(model).eval().requires_grad_(False)
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

    The exporter keeps the names of all parameters but those of most linear layers' matrices, which it transposes and
    numbers. Each of those is found by its product: the bias that is added to it has the layer's name.

    Raises:
        BundleError: it is not such a file, or of another network.
    """
    try:
        graph = onnx.load_from_string(content).graph
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        model = PatchTST(config, len(tensors["mean"]))
        biases = {
            product: name
            for node in graph.node
            if node.op_type == "Add"
            for product, name in (tuple(node.input), tuple(node.input)[::-1])
            if name.endswith(".bias")
        }
        for node in graph.node:
            if node.op_type == "MatMul" and node.input[1] in tensors:
                layer = biases[node.output[0]].removesuffix("bias")
                tensors[f"{layer}weight"] = tensors[node.input[1]].T
        wanted = model.state_dict()
        found = {name: torch.from_numpy(np.array(tensors[name])) for name in wanted}
        kinds = {name: torch.float16 if name.startswith("trunk.") else torch.float32 for name in wanted}
        if wrong := [name for name in wanted if found[name].dtype != kinds[name]]:
            raise BundleError(f"the ONNX file's {', '.join(wrong)} is not of the type that this exporter writes")
        model.load_state_dict(found)
    except (KeyError, IndexError, RuntimeError, DecodeError) as error:
        raise BundleError(f"the ONNX file is not one that this network was exported to: {error}") from error
    return model.eval()
