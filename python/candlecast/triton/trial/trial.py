"""Tries a bundle's model.onnx in a process apart: whatever it does, it does it here. Knows nothing of candlecast.

It runs in the environment of Triton's stubs (numpy 1.x and onnxruntime only). Usage:
python trial.py FOLDER SHAPE ANSWER OUTPUTS WINDOW_MS_MAX MEMORY_BYTES_MAX PARENT, where features have a SHAPE such as
96,240 behind their batch, and ANSWER is the name of the outputs. Prints one JSON object:
{"refusal": CODE or null, "why": words, "metrics": {…}}; a model that ends the process, or hangs, prints nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 2e-3, 1e-4
ROWS, RUNS = 16, 5


def limit(memory_bytes_max: int, parent: int) -> None:
    """Die with the parent, give way to everybody, and take no more memory than that."""
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.nice(19)
    with suppress(OSError):  # where the kernel groups by sessions, priorities count within ours alone
        Path("/proc/self/autogroup").write_text("19")
    # Data, not addresses: libraries and files are mapped far beyond what is used.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def tried(folder: Path, shape: tuple[int, ...], answer: str, outputs: int, window_ms_max: float) -> dict[str, Any]:
    """Load the model, compare tensors and golden values, and take its time."""
    import onnxruntime as ort

    began = time.perf_counter()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(
            str(folder / "model.onnx"),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["NchwcTransformer"],  # as in the backend
        )
    except Exception as error:
        return refused("CRASHED", f"ONNX Runtime does not load it: {first_line(error)}")
    load_ms = (time.perf_counter() - began) * 1e3
    for side, tensors, name, sizes in (
        ("input", session.get_inputs(), "features", shape),
        ("output", session.get_outputs(), answer, (outputs,)),
    ):
        if why := misfit(side, tensors, name, sizes):
            return refused("WRONG_TENSORS", why)
    inputs, golden = (np.load(folder / f"golden_{side}.npy", allow_pickle=False) for side in ("inputs", "outputs"))
    try:
        got = session.run([answer], {"features": inputs})[0]
        many = np.resize(inputs, (ROWS, *inputs.shape[1:]))
        times = []
        for _ in range(RUNS):
            began = time.process_time()  # of the processor: beside a busy server it waits most of the time
            session.run([answer], {"features": many})
            times.append((time.process_time() - began) * 1e3 / ROWS)
            if len(times) > 1 and min(times) > window_ms_max:
                break
    except Exception as error:
        return refused("CRASHED", f"it does not run: {first_line(error)}")
    if got.shape != golden.shape:
        return refused("WRONG_TENSORS", f"the golden inputs give {list(got.shape)}, not {list(golden.shape)}")
    if not np.isfinite(got).all():
        return refused("NOT_FINITE", f"{int((~np.isfinite(got)).sum())} of {got.size} golden outputs are not finite")
    worst, largest = float(np.abs(got - golden).max()), float(np.abs(golden).max())
    if worst > RELATIVE_TOLERANCE * largest + ABSOLUTE_TOLERANCE:
        return refused("GOLDEN_MISMATCH", f"the golden outputs differ by {worst:.3g}, the largest is {largest:.3g}")
    if min(times) > window_ms_max:
        return refused("TOO_SLOW", f"{min(times):.1f} ms a window, {window_ms_max:g} are allowed")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    metrics = {"load_ms": round(load_ms, 1), "window_ms": round(min(times), 3), "peak_mb": round(peak)}
    return {"refusal": None, "why": "", "metrics": metrics | {"golden_error": worst}}


def misfit(side: str, tensors: list[Any], name: str, shape: tuple[int, ...]) -> str:
    """Say what is wrong with the tensors of one side; there must be one, behind a batch of any size."""
    found = {tensor.name: f"{tensor.type} {list(tensor.shape)}" for tensor in tensors}
    wanted = f"one {side} {name!r}, tensor(float) {['batch', *shape]}"
    if list(found) != [name]:
        return f"expected {wanted}; it has {found}"
    (tensor,) = tensors
    sizes = tuple(tensor.shape)
    if tensor.type != "tensor(float)" or sizes[1:] != shape or isinstance(sizes[0], int):
        return f"expected {wanted}; it is {found[name]}"
    return ""


def refused(code: str, why: str) -> dict[str, Any]:
    return {"refusal": code, "why": why, "metrics": {}}


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    folder, shape, name, outputs, window_ms_max, memory_bytes_max, parent = sys.argv[1:]
    sizes = tuple(map(int, shape.split(",")))
    limit(int(memory_bytes_max), int(parent))
    try:
        answer = tried(Path(folder), sizes, name, int(outputs), float(window_ms_max))
    except MemoryError:
        answer = refused("TOO_LARGE", f"it takes more than {memory_bytes_max} bytes of memory")
    print(json.dumps(answer))
