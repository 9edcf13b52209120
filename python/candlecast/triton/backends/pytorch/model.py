"""Triton's `pytorch` backend in Python: a torch.export program, on a GPU or the CPU. Knows nothing of candlecast.

It runs inside Triton's Python stub, in whatever environment holds torch, under numpy 1 or 2: tensors come and go by
DLPack alone, since the stub of Triton 2.51 corrupts them on the way through numpy 2. It reads from config.pbtxt the
parameters `batch_buckets` (sizes to capture, "1,2,4,8"; a GPU only) and `intra_op_thread_count` (0: one per core).
"""

from __future__ import annotations

from typing import Any

import giving_way  # first of all: what follows takes long

# isort: split
import exported
import runners
import served_config
import torch
import triton_python_backend_utils as pb_utils
from torch.utils.dlpack import from_dlpack

BUCKETS = "1,2,4,8,16,32,64,128,256"


class TritonPythonModel:
    """One instance of one model version: a program on its device."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's program, compare its tensors with config.pbtxt and, on a GPU, capture its graphs.

        Raises:
            ValueError: the file is damaged or its tensors differ from config.pbtxt; Triton then refuses the version.
        """
        config, path = served_config.read(args, "model.pt2")
        torch.set_num_threads(
            int(served_config.parameter(config, "intra_op_thread_count", "0")) or torch.get_num_threads()
        )
        on_gpu = args["model_instance_kind"] == "GPU"
        device = torch.device("cuda", int(args["model_instance_device_id"])) if on_gpu else torch.device("cpu")
        program = exported.load(path, device)
        self.inputs = list(program.inputs)
        self.outputs = [tensor["name"] for tensor in config["output"]]
        _check(config, program, self.outputs)
        if on_gpu:
            torch.cuda.set_device(device)
            # Partial sums of a long product stay in single precision.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            buckets = served_config.parameter(config, "batch_buckets", BUCKETS)
            self.run: runners.Eager | runners.Graphs = runners.Graphs(
                program.run,
                [(_TORCH[kind], shape[1:]) for kind, shape in program.inputs.values()],
                buckets=[int(size) for size in buckets.split(",")],
                rows_max=config["max_batch_size"],
                device=device,
            )
        else:
            self.run = runners.Eager(program.run)
        giving_way.done()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests of a dynamic batch as one, rows in request order, and hand each its own rows."""
        feeds = [[_tensor(request, name) for request in requests] for name in self.inputs]
        results = self.run(feeds)
        responses, start = [], 0
        for part in feeds[0]:
            stop = start + len(part)
            tensors = [
                pb_utils.Tensor.from_dlpack(name, results[k][start:stop].__dlpack__())
                for k, name in enumerate(self.outputs)
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses


_TORCH = {name: kind for kind, name in exported.TYPES.items()}


def _tensor(request: Any, name: str) -> torch.Tensor:
    return from_dlpack(pb_utils.get_input_tensor_by_name(request, name).to_dlpack())


def _check(config: dict[str, Any], program: exported.Program, outputs: list[str]) -> None:
    """Compare with config.pbtxt: inputs by name, outputs, which an exported program does not name, by place."""
    served_config.check("input", config["input"], program.inputs)
    if len(config["input"]) != len(program.inputs) or len(outputs) != len(program.outputs):
        raise ValueError(
            f"the program has {len(program.inputs)} inputs and {len(program.outputs)} outputs,"
            f" config.pbtxt {len(config['input'])} and {len(outputs)}"
        )
    served_config.check("output", config["output"], dict(zip(outputs, program.outputs, strict=True)))
    if config["max_batch_size"] > program.rows_max:
        raise ValueError(f"the program takes {program.rows_max:g} rows, max_batch_size is {config['max_batch_size']}")
