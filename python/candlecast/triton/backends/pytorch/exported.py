"""A `torch.export` program (.pt2) → a function on one device. Knows no Triton and no batches.

The file is a zip archive: the graph as JSON, each weight as raw bytes. torch.export would also unpickle what other such
files carry (example inputs, tensor subclasses, custom objects); those are refused unread, so nothing is ever unpickled.
That makes no stranger's file safe: loading a graph evaluates its symbolic expressions. The bundle's sha256 vouches.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass
from torch.fx.node import map_aggregate

RAW = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|\.format_version|\.storage_alignment|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
)
"""Members that are JSON, numbers or raw tensors."""
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
EXAMPLE = "data/sample_inputs/model.pt"
"""A pickle where it is not empty."""
TYPES = {
    torch.float32: "TYPE_FP32",
    torch.float16: "TYPE_FP16",
    torch.float64: "TYPE_FP64",
    torch.int32: "TYPE_INT32",
    torch.int64: "TYPE_INT64",
}
DAMAGES = (zipfile.BadZipFile, json.JSONDecodeError, OSError, RuntimeError, LookupError, TypeError, AssertionError)
"""What reading an archive and torch.export raise over a file that is none of theirs."""

Signature = tuple[str, list[Any]]
"""Type as Triton spells it, and shape; a dimension that may vary is no int."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program on its device; inputs by name, outputs in order, batch first."""

    run: Callable[..., tuple[Tensor, ...]]
    inputs: dict[str, Signature]
    outputs: list[Signature]
    rows_max: float
    """Rows in one run that it was exported for; infinity when it does not care."""


def load(path: Path, device: torch.device) -> Program:
    """Load the program onto the device: as it is on a GPU, its halves as singles on a CPU.

    Raises:
        ValueError: the file is damaged, holds something pickled, or takes batches of one size only.
    """
    try:
        _check_archive(path)
        program = torch.export.load(path)
    except DAMAGES as error:
        raise ValueError(f"{path.name} is damaged or no torch.export program: {error}") from error
    nodes = {node.name: node for node in program.graph.nodes}
    inputs = [nodes[str(name)].meta["val"] for name in program.graph_signature.user_inputs]
    outputs = [nodes[str(name)].meta["val"] for name in program.graph_signature.user_outputs]
    rows_max = _rows_max(path, program, inputs)
    names = [str(name) for name in program.graph_signature.user_inputs]
    if device.type != "cpu":
        program = move_to_device_pass(program, str(device))
    module = program.module()
    if device.type == "cpu":
        _make_single(module)
    return Program(
        run=_always_tuple(module),
        inputs={name: _signature(value) for name, value in zip(names, inputs, strict=True)},
        outputs=[_signature(value) for value in outputs],
        rows_max=rows_max,
    )


def _check_archive(path: Path) -> None:
    """Read every byte once against its checksum, and refuse members that torch.export would unpickle."""
    with zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():
            raise zipfile.BadZipFile(f"{broken} does not match its checksum")
        members = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError(f"{path.name} names a member twice")
        for name, entry in members.items():
            if not RAW.fullmatch(name) and not (name == EXAMPLE and entry.file_size == 0):
                raise ValueError(f"{path.name} carries {name}, which is no graph and no raw tensor")
        for name in CONFIGS:
            tensors = json.loads(archive.read(members[name].filename))["config"]
            if any(tensor["use_pickle"] for tensor in tensors.values()):
                raise ValueError(f"{path.name} carries a pickled tensor in {name}")


def _rows_max(path: Path, program: torch.export.ExportedProgram, inputs: list[Tensor]) -> float:
    batches: list[Any] = [value.shape[0] for value in inputs]
    if any(isinstance(size, int) for size in batches) or len({str(size) for size in batches}) != 1:
        raise ValueError(
            f"{path.name} was exported for batches of {', '.join(map(str, batches))} rows: export it dynamic"
        )
    bounds = program.range_constraints[batches[0].node.expr]
    if bounds.lower > 1:
        raise ValueError(f"{path.name} takes {bounds.lower} rows or more, never one")
    return float(bounds.upper)


def _make_single(module: torch.fx.GraphModule) -> None:
    """Turn half precision into single, weights and casts alike: a CPU is slow in halves, and no more exact."""
    module.float()
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)  # it would insist on the half
            continue
        node.args = map_aggregate(node.args, _single)
        node.kwargs = map_aggregate(node.kwargs, _single)
    module.recompile()


def _single(argument: Any) -> Any:
    return torch.float32 if argument is torch.float16 else argument


def _always_tuple(module: torch.fx.GraphModule) -> Callable[..., tuple[Tensor, ...]]:
    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        answer = module(*inputs)
        return (answer,) if isinstance(answer, Tensor) else tuple(answer)

    return run


def _signature(value: Tensor) -> Signature:
    return TYPES.get(value.dtype, str(value.dtype)), [
        size if isinstance(size, int) else str(size) for size in value.shape
    ]
