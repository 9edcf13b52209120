"""What `candlecast doctor` finds on this machine and at its doors; doctor_parts has the other parts. Prints nothing."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from candlecast import __version__
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.settings import Settings, require_loopback
from candlecast.triton.environment import Environment

CHECK_TIMEOUT_MS = 5_000
"""Longest examination of one part; what it asks others has shorter limits."""
DOOR_TIMEOUT_S = 2.0
DISK_WARN_BYTES, DISK_FAIL_BYTES = 2 * 1024**3, 256 * 1024**2


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    status: Status
    found: str
    advice: str = ""  # one thing to do; empty when ok


def ok(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Status.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Status.FAIL, found, advice)


def refused(check: str, error: CandlecastError) -> Finding:
    """Return the failure that an error of ours tells; what to do comes last in its words."""
    text = str(error)
    separator = "; " if "; " in text else ": "
    found, _, advice = text.rpartition(separator)
    return fail(check, found, advice) if found else fail(check, text, "see its log")


async def examine(settings: Settings, *, timeout_ms: int = CHECK_TIMEOUT_MS) -> list[Finding]:
    """Run all checks at the same time; return their findings in the order of the parts, outside in."""
    from candlecast.cli import doctor_parts

    checks: dict[str, Callable[[], Awaitable[list[Finding]]]] = {
        "versions": lambda: asyncio.to_thread(versions, settings),
        "settings": lambda: asyncio.to_thread(_settings, settings),
        "state_dir": lambda: asyncio.to_thread(state_dir, settings),
        "grpc": lambda: grpc_door(settings),
        "http": lambda: asyncio.to_thread(http_door, settings),
        "database": lambda: doctor_parts.database(settings),
        "model": lambda: doctor_parts.model(settings),
    }
    groups = await asyncio.gather(*(_limited(name, check, timeout_ms) for name, check in checks.items()))
    return [finding for group in groups for finding in group]


async def _limited(name: str, check: Callable[[], Awaitable[list[Finding]]], timeout_ms: int) -> list[Finding]:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await check()
    except TimeoutError:
        return [fail(name, f"no answer within {timeout_ms / 1000:g} s", "it hangs or is overloaded: see its log")]
    except Exception as error:  # the others are to be told all the same
        return [fail(name, f"this check broke: {error!r}", "report it")]


def versions(settings: Settings) -> list[Finding]:
    """Compare what is installed with what is known to work."""
    here = {name: importlib.metadata.version(name) for name in ("numpy", "grpcio")}
    found = (
        f"candlecast {__version__}, Python {platform.python_version()}, numpy {here['numpy']}, grpcio {here['grpcio']}"
    )
    if _release(here["numpy"]) < (2, 2):
        mine = fail("versions", found, "candlecast needs numpy 2.2 or newer: run `make`")
    elif _release(here["grpcio"]) >= (1, 83):
        mine = warn("versions", found, "grpcio 1.83 and newer leak calls that were given up: run `make`")
    else:
        mine = ok("versions", found)
    stub_env_dir = None if settings.triton_backend == "onnxruntime" else Path(sys.prefix)
    return [mine, _triton_versions(settings.triton_env_dir, stub_env_dir)]


def _triton_versions(env_dir: Path, stub_env_dir: Path | None) -> Finding:
    name = "triton_env"
    try:
        site_packages = Environment.find(env_dir, stub_env_dir).server.parents[3]
    except ConfigurationError as error:
        return warn(name, str(error), "`candlecast up` needs it: run `make`; an external Triton does not")
    there = {d.name: d.version for d in importlib.metadata.distributions(path=[str(site_packages)])}
    numpy = there.get("numpy", "absent")
    found = f"nvidia-pytriton {there.get('nvidia-pytriton', 'absent')}, numpy {numpy} in {env_dir}"
    if _release(numpy)[:1] != (1,):
        return fail(name, found, "Triton's stub corrupts tensors under any numpy but 1.x: remove it and run `make`")
    return ok(name, found)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _settings(settings: Settings) -> list[Finding]:
    changed = ", ".join(sorted(settings.model_fields_set))  # names only: a value may be a secret
    return [ok("settings", f"defaults, but for {changed}" if changed else "defaults")]


def state_dir(settings: Settings) -> list[Finding]:
    """Look at the state directory and the disk it is on."""
    path = settings.state_dir
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 1024**3:,.1f} GiB free at {there}"
    if free < DISK_FAIL_BYTES:
        disk = fail("disk", found, "make room: without it nothing more is stored")
    elif free < DISK_WARN_BYTES:
        disk = warn("disk", found, "make room soon: journal and database grow with every forecast")
    else:
        disk = ok("disk", found)
    return [_directory(path), disk]


def _directory(path: Path) -> Finding:
    name = "state_dir"
    if not path.exists():
        return warn(name, f"{path} is not there yet", "`candlecast up` makes it; --state-dir names another")
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return fail(name, f"{path} cannot be written", "give it to this user, or choose another by --state-dir")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return warn(name, f"{path} is open to others (mode {mode:04o})", f"chmod 700 {path}")
    return ok(name, f"{path}, mode {mode:04o}{', `candlecast up` runs on it' if up_runs(path) else ''}")


def up_runs(path: Path) -> bool:
    """Say whether a `candlecast up` holds the state directory."""
    try:
        with (path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def grpc_door(settings: Settings) -> list[Finding]:
    """Ask who listens at the server's address, and whether it serves."""
    address = settings.grpc
    if misplaced := _misplaced("grpc", address):
        return [misplaced, warn("health", "not known", "see `grpc`")]
    if await _is_free(address):
        nobody = warn("health", "no server runs", "start one by `candlecast up` or `candlecast serve`")
        return [ok("grpc", f"{address} is free"), nobody]
    request = health_pb2.HealthCheckRequest(service="candlecast.v1.Forecasts")
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            health = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(request, timeout=DOOR_TIMEOUT_S)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            code = error.code().name
            if code == "DEADLINE_EXCEEDED":
                hangs = fail("grpc", f"{address} is held, and does not answer", "it hangs: see its log, restart it")
                return [hangs, warn("health", "not known", "see `grpc`")]
            found = f"{address} is taken by something else than candlecast ({code})"
            taken = fail("grpc", found, "stop that, or choose another address by --grpc")
            return [taken, warn("health", "not known", "see `grpc`")]
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return [ok("grpc", f"candlecast answers at {address}"), ok("health", "SERVING")]
    log_path = settings.state_dir / "logs" / "server.log"
    advice = f"the line `ready=false` in {log_path if log_path.exists() else 'its log'} says why"
    return [ok("grpc", f"candlecast answers at {address}"), fail("health", "NOT_SERVING: its canary fails", advice)]


def http_door(settings: Settings) -> list[Finding]:
    """Ask who listens at the web door's address."""
    address = settings.http
    if misplaced := _misplaced("http", address):
        return [misplaced]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/openapi.json", timeout=DOOR_TIMEOUT_S) as answer:
            title = json.load(answer)["info"]["title"]
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return [ok("http", f"{address} is free")]
        title = str(error.reason)
    except (OSError, ValueError, LookupError, TypeError) as error:
        title = type(error).__name__
    if title == "candlecast":
        return [ok("http", f"candlecast answers at http://{address}/docs")]
    found = f"{address} is taken by something else than candlecast ({title})"
    return [fail("http", found, "stop that, or choose another address by --http")]


def _misplaced(name: str, address: str) -> Finding | None:
    try:
        require_loopback(name, address)
    except ConfigurationError as error:
        return refused(name, error)
    return None


async def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except OSError:
        return True
    writer.close()
    return False
