"""The `pytorch` backend on a GPU, in one call: what it computes, how fast, and how far from what the card can do.

Usage: python bench/gpu.py [--device cuda|cpu] [--kit build/gpu-kit.tar.xz] [--repository DIR] [--json FILE]

Prints one JSON object. On a machine that has only torch, `--kit` brings the rest (bench/gpu_kit.py packs it). Each part
stands alone: one that fails says why in its place, and the others are measured. Parts:
  floor       what this machine does at best: pinned memory → GPU, and matrix products in fp16 (CPU: fp32)
  in_process  the backend's own runner without Triton: whole batches, and their copy and kernels beside the floor
  served      the embedded tritonserver: start, correctness, lone windows' p50 and p99, forecasts/s of bursts

**Only `--device cpu` has been run so far: no GPU could be started.** There the copy is a copy in memory and the kernels
are the eager program in fp32.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))
sys.path.insert(0, str(ROOT / "python/candlecast/triton/backends/pytorch"))

import numpy as np  # noqa: E402
import torch  # noqa: E402

WINDOW, COLUMNS = 96, 240
ROWS = (1, 8, 64, 256)
BURSTS = (64, 256, 1_024)
REQUEST_ROWS = 64
LONE_REQUESTS_MAX = 2_000


class Clock:
    """Times a function by wall clock, or by CUDA events on one stream."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds

    def wall_ms(self, work: Callable[[], object]) -> float:
        """Return the median milliseconds of a call, waited for."""
        taken: list[float] = []
        end = time.perf_counter() + self.seconds
        while len(taken) < 5 or time.perf_counter() < end:
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            taken.append((time.perf_counter() - started) * 1e3)
        return float(np.median(taken))

    def device_ms(self, stream: Any, work: Callable[[], object]) -> float:
        """Return the median milliseconds that the GPU itself is at work on `stream`; on a CPU, as wall_ms."""
        if self.device.type == "cpu":
            return self.wall_ms(work)
        taken: list[float] = []
        end = time.perf_counter() + self.seconds
        while len(taken) < 5 or time.perf_counter() < end:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            with torch.cuda.stream(stream):
                before.record(stream)
                work()
                after.record(stream)
            after.synchronize()
            taken.append(before.elapsed_time(after))
        return float(np.median(taken))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": str(device),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["driver"] = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    found["commit"] = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    return found


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except OSError:
        return "unknown"


def floor(device: torch.device, clock: Clock) -> dict[str, float]:
    """Return bytes/s from pinned memory to the device and operations/s of a large matrix product."""
    on_gpu = device.type == "cuda"
    size = 128 * 1024 * 1024
    host = torch.zeros(size, dtype=torch.uint8, pin_memory=on_gpu)
    there = torch.empty(size, dtype=torch.uint8, device=device)
    stream = torch.cuda.current_stream(device) if on_gpu else None
    copy_ms = clock.device_ms(stream, lambda: there.copy_(host, non_blocking=True))
    side, kind = (8192, torch.float16) if on_gpu else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    for _ in range(3):
        a @ b
    matmul_ms = clock.device_ms(stream, lambda: a @ b)
    return {"copy_bytes_per_s": size / copy_ms * 1e3, "matmul_ops_per_s": 2 * side**3 / matmul_ms * 1e3}


def operations(run: Callable[..., Any], example: torch.Tensor) -> float:
    """Return the operations of one window: two for each multiplication and addition in matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run(example)
    return float(counter.get_total_flops() / len(example))


def in_process(
    path: Path, device: torch.device, clock: Clock, best: dict[str, float], windows: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Measure the backend's runner at several batch sizes, and its parts beside the floor."""
    import exported
    import runners

    single = exported.load(path, torch.device("cpu"))
    program = exported.load(path, device)
    inputs = torch.from_numpy(windows)
    ops = operations(single.run, inputs[:4])
    row_bytes = WINDOW * COLUMNS * 4
    started = time.perf_counter()
    runner: Any = runners.Eager(program.run)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        kinds = [(torch.float32, (WINDOW, COLUMNS))]
        buckets = (1, 2, 4, 8, 16, 32, 64, 128, 256)
        runner = runners.Graphs(program.run, kinds, buckets=buckets, rows_max=256, device=device)
    capture_s = time.perf_counter() - started
    right = np.concatenate([single.run(part)[0].detach().numpy() for part in torch.split(inputs, 64)])
    answers = runner([[inputs]])[0].clone().numpy()
    result: dict[str, Any] = {
        "ops_per_window": ops,
        "bytes_per_window": row_bytes,
        "capture_s": capture_s,
        "relative_error_to_fp32": float(np.abs(answers - right).max() / np.abs(right).max()),
        "rows": {},
    }
    for rows in ROWS:
        part = inputs[:rows]
        measured = {"whole_ms": clock.wall_ms(partial(runner, [[part]]))}
        copy_floor_ms = rows * row_bytes / best["copy_bytes_per_s"] * 1e3
        kernels_floor_ms = rows * ops / best["matmul_ops_per_s"] * 1e3
        measured |= _parts(runner, program, part, device, clock)
        measured |= {"copy_floor_ms": copy_floor_ms, "kernels_floor_ms": kernels_floor_ms}
        measured["copy_floor_share"] = copy_floor_ms / measured["copy_ms"]
        measured["kernels_floor_share"] = kernels_floor_ms / measured["kernels_ms"]
        measured["copy_share_of_whole"] = measured["copy_ms"] / measured["whole_ms"]
        measured["kernels_share_of_whole"] = measured["kernels_ms"] / measured["whole_ms"]
        result["rows"][str(rows)] = measured
    return result


def _parts(runner: Any, program: Any, part: torch.Tensor, device: torch.device, clock: Clock) -> dict[str, float]:
    """Return milliseconds of the copy alone, of staging and copy as the runner does them, and of the kernels."""
    rows = len(part)
    if device.type == "cpu":
        there = torch.empty_like(part)
        copy_ms = clock.wall_ms(lambda: there.copy_(part))

        def kernels() -> object:
            with torch.inference_mode():
                return program.run(part)

        return {"copy_ms": copy_ms, "staged_copy_ms": copy_ms, "kernels_ms": clock.wall_ms(kernels)}
    staged, whole = runner._staged[0], runner._inputs[0]
    graph, _ = runner._graphs[next(size for size in runner._buckets if size >= rows)]
    copying, computing = runner._copying, runner._computing

    def staged_copy() -> None:
        with torch.cuda.stream(copying):
            runner._send([part], staged, whole)

    with torch.inference_mode():
        return {
            "copy_ms": clock.device_ms(copying, lambda: whole[:rows].copy_(staged[:rows], non_blocking=True)),
            "staged_copy_ms": clock.wall_ms(staged_copy),
            "kernels_ms": clock.device_ms(computing, graph.replay),
        }


async def served(
    repository: Path, triton_env: Path, device: torch.device, seconds: float, windows: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Start tritonserver with the backend and measure it by its own client."""
    import exported

    from candlecast.errors import InvalidRequest
    from candlecast.triton.client import TritonModel
    from candlecast.triton.embedded import EmbeddedTriton

    on_gpu = device.type == "cuda"
    newest = max((repository / "patchtst").glob("[0-9]*"), key=lambda path: int(path.name))
    single = exported.load(newest / "model.pt2", torch.device("cpu"))
    right = np.concatenate(
        [single.run(part)[0].detach().numpy() for part in torch.split(torch.from_numpy(windows), 64)]
    )
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        triton = EmbeddedTriton(
            env_dir=triton_env,
            repository=repository,
            models=["patchtst"],
            work_dir=Path(work),
            config="pytorch" if on_gpu else "pytorch_cpu",
            stub_env_dir=Path(sys.prefix),
            gpu=on_gpu,
            start_timeout_ms=180_000,
        )
        try:
            started = time.perf_counter()
            async with triton, TritonModel(triton.address, "patchtst", timeout_ms=30_000) as model:
                result["start_s"] = time.perf_counter() - started

                async def ask(inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
                    parts = [inputs[k : k + REQUEST_ROWS] for k in range(0, len(inputs), REQUEST_ROWS)]
                    return np.concatenate([a.outputs for a in await asyncio.gather(*map(model.infer, parts))])

                answers = await ask(windows)
                golden = np.load(newest / "golden_inputs.npy"), np.load(newest / "golden_outputs.npy")
                spoiled = windows[:9].copy()
                spoiled[4, 50, 3] = np.nan
                nan_rows = np.isnan(await ask(spoiled)).all(axis=1).tolist()
                try:
                    await model.infer(np.zeros((3, WINDOW, COLUMNS + 1), np.float32))
                    refused = False
                except InvalidRequest:
                    refused = True
                result["correctness"] = {
                    "windows": len(windows),
                    "relative_error_to_fp32": float(np.abs(answers - right).max() / np.abs(right).max()),
                    "golden_check_passes": bool(await model.check_golden(*golden)),
                    "nan_spoils_its_row_only": nan_rows == [k == 4 for k in range(9)],
                    "wrong_shape_refused": refused,
                }
                result["lone_window"] = await lone(model, windows, seconds)
                result["bursts"] = {str(rows): await burst(ask, windows, rows, seconds) for rows in BURSTS}
        except Exception:
            log = Path(work) / "triton.log"
            result["triton_log"] = log.read_text(errors="replace")[-3_000:] if log.exists() else ""
            result["error"] = traceback.format_exc()
    return result


async def lone(model: Any, windows: np.ndarray[Any, Any], seconds: float) -> dict[str, float]:
    """Ask for one window after the other."""
    taken: list[float] = []
    end = time.perf_counter() + 2 * seconds
    for k in range(50 + LONE_REQUESTS_MAX):
        started = time.perf_counter()
        await model.infer(windows[k % len(windows)][None])
        if k >= 50:
            taken.append((time.perf_counter() - started) * 1e3)
        if len(taken) >= 100 and time.perf_counter() > end:
            break
    p50, p99 = np.percentile(taken, [50, 99])
    return {"requests": len(taken), "p50_ms": float(p50), "p99_ms": float(p99)}


async def burst(
    ask: Callable[[Any], Awaitable[Any]], windows: np.ndarray[Any, Any], rows: int, seconds: float
) -> dict[str, float]:
    """Send `rows` windows at once, in requests of 64, again and again."""
    inputs = np.ascontiguousarray(np.resize(windows, (rows, WINDOW, COLUMNS)))
    await ask(inputs)
    taken: list[float] = []
    end = time.perf_counter() + 2 * seconds
    while len(taken) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        await ask(inputs)
        taken.append(time.perf_counter() - started)
    return {"bursts": len(taken), "median_ms": float(np.median(taken)) * 1e3, "per_s": rows / float(np.median(taken))}


def attempt(work: Callable[[], Any]) -> Any:
    """Return what the part measures, or what went wrong."""
    try:
        return work()
    except Exception:
        return {"error": traceback.format_exc()}


def main() -> None:
    """Measure everything, print the JSON, fail when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--kit", type=Path, help="archive of bench/gpu_kit.py")
    parser.add_argument("--repository", type=Path, default=ROOT / "triton_models", help="with model.pt2 in its bundle")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    args = parser.parse_args()
    device = torch.device(args.device, 0) if args.device == "cuda" else torch.device("cpu")
    if args.device == "cpu":
        torch.set_num_threads(1)
    clock = Clock(device, args.seconds)
    with tempfile.TemporaryDirectory(prefix="candlecast-gpu-", ignore_cleanup_errors=True) as temporary:
        repository, triton_env = args.repository, ROOT / ".venv-triton"
        if args.kit:
            with tarfile.open(args.kit) as archive:
                archive.extractall(temporary, filter="data")
            triton_env, repository = Path(temporary) / "kit", Path(temporary) / "kit" / "repository"
            sys.path.insert(0, str(triton_env / "site"))
        newest = max((repository / "patchtst").glob("[0-9]*"), key=lambda path: int(path.name))
        if not (newest / "model.pt2").exists():
            sys.exit(f"{newest} has no model.pt2: run `candlecast export {newest}` on a copy, or give --kit")
        golden, rng = np.load(newest / "golden_inputs.npy"), np.random.default_rng(0)
        windows = np.resize(golden, (max(ROWS), WINDOW, COLUMNS))
        windows = (windows * rng.uniform(0.999, 1.001, windows.shape)).astype(np.float32)
        result: dict[str, Any] = {"machine": attempt(lambda: machine(device))}
        result["floor"] = best = attempt(lambda: floor(device, clock))
        result["in_process"] = attempt(lambda: in_process(newest / "model.pt2", device, clock, best, windows))
        result["served"] = attempt(lambda: asyncio.run(served(repository, triton_env, device, args.seconds, windows)))
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    sys.exit(1 if any("error" in part for part in result.values()) else 0)


if __name__ == "__main__":
    main()
