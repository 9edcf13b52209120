"""Whether a version may be shown to Triton: every check that needs no traffic. Knows no state and no Triton."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from candlecast import features as feature_state
from candlecast import outputs
from candlecast.errors import BundleError, ModelRefused, Refusal
from candlecast.models import ensemble
from candlecast.models.bundle import FORECAST, MODEL, Bundle
from candlecast.models.ensemble import Ensemble, members_of
from candlecast.models.library import require_size

SCRIPT: Final = Path(__file__).parents[1] / "triton" / "trial" / "trial.py"
OUTPUT_BYTES_MAX: Final = 64 * 1024
MEMORY_WORDS: Final = ("bad_alloc", "MemoryError", "Failed to allocate", "allocate memory")


@dataclass(frozen=True, slots=True)
class Trials:
    """What a version has to keep to.

    Args:
        python: of the environment of Triton's stubs; without one the golden values are asked of Triton alone.
        name: of the model that is served.
        reference_symbol: that is configured.
        window_ms_max: on one core, in batches.
    """

    python: Path | None
    name: str
    reference_symbol: str
    bytes_max: int
    memory_bytes_max: int
    timeout_ms: int
    window_ms_max: float


async def verify(folder: Path, version: int, trials: Trials) -> dict[str, Any]:
    """Check sizes, hashes, features, tensors, golden values, speed and weights; return what was measured.

    Of an ensemble each member is tried, and all have to keep to window_ms_max together: each window costs their sum.

    Raises:
        ModelRefused: with the first of these that is wrong.
    """
    served = await asyncio.to_thread(loaded, folder, version, trials)
    if isinstance(served, Bundle):
        return dict(await tried(folder, trials)) if trials.python else {}
    found: dict[str, Any] = {}
    for bundle, weight in zip(served.members, served.weights.tolist(), strict=True):
        name = f"{bundle.manifest.name} v{bundle.manifest.version}"
        try:
            measured = await tried(bundle.path, trials) if trials.python else {}
        except ModelRefused as error:
            raise ModelRefused(error.refusal, f"{name}: {str(error).partition(': ')[2]}") from error
        found[name] = {**measured, "weight": round(weight, 6)}
    if not trials.python:
        return {"members": found}
    window_ms = sum(one["window_ms"] for one in found.values())
    if window_ms > trials.window_ms_max:
        raise ModelRefused(
            Refusal.TOO_SLOW,
            f"its members take {window_ms:.2f} ms a window together, {trials.window_ms_max:g} are allowed",
        )
    return {"window_ms": round(window_ms, 3), "members": found}


def loaded(folder: Path, version: int | None, trials: Trials) -> Bundle | Ensemble:
    """Return what lies in a folder, as this server may serve it; blocks.

    Args:
        version: that it has to have.

    Raises:
        ModelRefused: it may not.
    """
    require_size(folder, trials.bytes_max)
    try:
        served = ensemble.load(folder)
        named = served.manifest.name, served.manifest.version
        if served.manifest.name != trials.name or version not in (None, served.manifest.version):
            wanted = f"{trials.name} version {version}" if version else trials.name
            raise BundleError(f"{folder} is {named[0]} version {named[1]}, not {wanted}", Refusal.WRONG_MODEL)
        if isinstance(served, Ensemble) != (trials.name == ensemble.NAME):
            raise BundleError(
                f"{folder}: {trials.name} is the name of ensembles, and of them alone", Refusal.WRONG_MODEL
            )
        for bundle in members_of(served):
            if bundle.target != FORECAST:
                raise BundleError(f"{bundle.path} is a model of {bundle.target}, no forecaster", Refusal.WRONG_MODEL)
            bundle.check_feature_set()
            bundle.check_reference(trials.reference_symbol)
        if isinstance(served, Ensemble):
            served.check_weights()
    except BundleError as error:
        raise ModelRefused(error.refusal, str(error)) from error
    return served


async def tried(
    folder: Path,
    trials: Trials,
    shape: Sequence[int] = (feature_state.WINDOW, len(feature_state.NAMES)),
    output: str = "outputs",
    count: int = outputs.COUNT,
) -> Mapping[str, Any]:
    """Have the model of a bundle, features [-1, *shape] → output [-1, count], tried in a process apart."""
    sizes = ",".join(map(str, shape))
    arguments = [folder, sizes, output, count, trials.window_ms_max, trials.memory_bytes_max, os.getpid()]
    process = await asyncio.create_subprocess_exec(
        str(trials.python), "-I", str(SCRIPT), *map(str, arguments),
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None, "they are pipes"
    try:
        async with asyncio.timeout(trials.timeout_ms / 1000):
            said, complaint = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError as error:
        raise ModelRefused(
            Refusal.TIMED_OUT, f"{MODEL} was not loaded and tried within {trials.timeout_ms / 1000:g} s"
        ) from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    try:
        answer = json.loads(said)
        refusal, why, metrics = answer["refusal"], str(answer["why"]), answer["metrics"]
    except (ValueError, KeyError, TypeError):
        words = complaint.decode(errors="replace")
        lines = words.strip().splitlines() or ["it said nothing"]
        is_memory = any(word in words for word in MEMORY_WORDS)
        raise ModelRefused(
            Refusal.TOO_LARGE if is_memory else Refusal.CRASHED,
            f"the trial of {MODEL} ended with {code}: {lines[-1][:300]}",
        ) from None
    if refusal is not None:
        is_memory = refusal == Refusal.CRASHED.value and any(word in why for word in MEMORY_WORDS)
        raise ModelRefused(Refusal.TOO_LARGE if is_memory else Refusal(refusal), why)
    return dict(metrics)


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end, and keep the last of it."""
    kept = b""
    while data := await stream.read(OUTPUT_BYTES_MAX):
        kept = (kept + data)[-OUTPUT_BYTES_MAX:]
    return kept
