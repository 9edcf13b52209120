"""`candlecast up`: PostgreSQL, Triton, the server and the web door, started in order, watched, stopped in reverse."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import shutil
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from candlecast import lifecycle
from candlecast import settings as configuration
from candlecast.errors import ConfigurationError, Unavailable
from candlecast.lifecycle import Child, Keeper
from candlecast.settings import RESTARTS, Settings, require_loopback

if TYPE_CHECKING:
    from candlecast.models.bundle import Bundle
    from candlecast.models.ensemble import Ensemble

_START_TIMEOUT_MS = 30_000
_PYTORCH_START_TIMEOUT_MS = 120_000


def register(commands: Any) -> None:
    command = commands.add_parser(
        "up",
        help="start everything, embedded",
        description="Start PostgreSQL, Triton, the gRPC server and the web door, wait until a canary forecast has gone "
        "through all of it, and say where it listens. Ctrl-C stops everything in reverse order. A part that dies is "
        "reported and restarted; one that keeps dying stops the rest.",
    )
    command.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="database and logs (default: the user's data home)"
    )
    command.add_argument("--grpc", metavar="HOST:PORT", help="gRPC (default 127.0.0.1:50051)")
    command.add_argument("--http", metavar="HOST:PORT", help="HTTP (default 127.0.0.1:8080)")
    command.add_argument("--metrics", metavar="HOST:PORT", help="for Prometheus (default 127.0.0.1:9464; '': none)")
    command.add_argument(
        "--allow-simulated",
        action="store_true",
        default=None,
        help="serve a gate that was trained on simulated order flow, too",
    )
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = configuration.load(
        state_dir=args.state_dir,
        grpc=args.grpc,
        http=args.http,
        metrics=args.metrics,
        allow_simulated=args.allow_simulated,
    )
    return asyncio.run(up(settings.model_copy(update={"state_dir": settings.state_dir.absolute()})))


async def up(settings: Settings) -> int:
    """Run the four parts until a signal; return the exit code."""
    stop = asyncio.ensure_future(lifecycle.until_signal())
    parts = asyncio.ensure_future(_run_parts(settings))
    await asyncio.wait({stop, parts}, return_when=asyncio.FIRST_COMPLETED)
    if parts.done():  # a part could not be started, or kept dying
        stop.cancel()
        error = parts.exception()
        if not isinstance(error, RuntimeError):
            parts.result()
        _say(f"candlecast stops: {error}")
        return 1
    _say(f"{stop.result().name}: stopping")
    parts.cancel()
    await asyncio.gather(parts, return_exceptions=True)
    _say("stopped")
    return 0


async def _run_parts(settings: Settings) -> None:
    from candlecast.models.ensemble import members_of
    from candlecast.server.admin import made_token
    from candlecast.server.champion import champion_check, models_of
    from candlecast.server.source import synced
    from candlecast.store.cluster import psql
    from candlecast.store.embedded import EmbeddedPostgres
    from candlecast.store.migrate import MIGRATIONS, migrate
    from candlecast.triton.embedded import EmbeddedTriton

    logs = settings.state_dir / "logs"
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_instance(settings.state_dir))
        made_token(settings.state_dir)
        _require_free("grpc", settings.grpc)
        _require_free("http", settings.http)
        if settings.metrics:
            _require_free("metrics", settings.metrics)
        restarts = stack.enter_context(Restarts(settings.state_dir / RESTARTS))
        postgres = EmbeddedPostgres(settings.state_dir / "postgres", log_path=logs / "postgres.log")
        keepers = [await stack.enter_async_context(Keeper("PostgreSQL", lambda: postgres, restarts.of("PostgreSQL")))]
        url_file = settings.state_dir / "database_url"
        _write_private(url_file, postgres.dsn)
        for name in await migrate(postgres.dsn, MIGRATIONS):
            _say(f"migrated {name}")
        await synced(settings, _say)
        how, served = _how_to_run(settings), await _served(settings)
        first, gate = {bundle.manifest.name for bundle in members_of(served)}, _gate(settings)
        triton = EmbeddedTriton(
            env_dir=settings.triton_env_dir,
            repository=settings.model_repository,
            # Those of ensembles come and go while it runs.
            models=lambda: sorted((models_of(settings) or first) | gate),
            work_dir=settings.state_dir / "triton",
            **how,
            port=lifecycle.free_port(),  # stays over restarts
            canary=lambda address: champion_check(address, settings),
            canary_interval_ms=settings.canary_interval_ms,
            canary_limit_ms=settings.infer_timeout_ms,
            recycle_h=settings.triton_recycle_h,
            metrics_port=settings.triton_metrics_port,
        )
        keepers.append(await stack.enter_async_context(Keeper("Triton", lambda: triton, restarts.of("Triton"))))
        stack.enter_context(_told(settings.state_dir / "triton_address", triton.address))
        env = {**os.environ, "CANDLECAST_STATE_DIR": str(settings.state_dir)}
        env |= {"DATABASE_URL": postgres.dsn, "CANDLECAST_DATABASE_URL": postgres.dsn}
        env["CANDLECAST_METRICS"] = settings.metrics
        env["CANDLECAST_TRITON_KEY"] = triton.memory_key
        env["CANDLECAST_TRITON_CONTROL_KEY"] = triton.control_header[1]
        env.pop("PGPASSWORD", None)  # would go before the password file that the URL names

        def server() -> ReadyChild:
            argv = ["serve", "--grpc", settings.grpc, "--triton", triton.address]
            argv += ["--model-repository", str(settings.model_repository)]
            argv += ["--allow-simulated"] * settings.allow_simulated
            return ReadyChild(
                _child("server", argv, env, logs, settings), lambda: _serving(settings.grpc), logs / "server.log"
            )

        def dashboard() -> ReadyChild:
            argv = ["dashboard", "--http", settings.http, "--grpc", settings.grpc]
            return ReadyChild(
                _child("dashboard", argv, env, logs, settings), lambda: _accepts(settings.http), logs / "dashboard.log"
            )

        keepers.append(await stack.enter_async_context(Keeper("server", server, restarts.of("server"))))
        # It only reads: that it cannot start, as on a full disk, is no reason to stop the others.
        web = Keeper("dashboard", dashboard, restarts.of("dashboard"), restarts_max=None)
        keepers.append(await stack.enter_async_context(web))
        _say(f"candlecast is ready after {time.monotonic() - started:.1f} s (a canary forecast went through all of it)")
        _say(f"  gRPC   {settings.grpc}")
        _say(f"  HTTP   http://{settings.http}/ml/ (API: /docs)")
        if settings.metrics:
            _say(f"  metric http://{settings.metrics}/metrics")
        _say(f'  SQL    {_command("psql", psql())} "$(cat {url_file})"')
        _say(f"  logs   {logs}")
        _say(f"  try    {_command('candlecast', Path(sys.argv[0]))} replay SYMBOL-15m.parquet --server {settings.grpc}")
        tasks = {keeper.task for keeper in keepers if keeper.task}
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()


def _gate(settings: Settings) -> set[str]:
    """Return the name of the gate, if the repository has one and Triton can run it.

    Raises:
        BundleError: it is damaged, or was trained on a simulated market and that is not allowed.
    """
    from candlecast.models import gate_bundle

    if (bundle := gate_bundle.newest(settings.model_repository / gate_bundle.NAME)) is None:
        return set()
    bundle.check_real(settings.allow_simulated)
    if settings.triton_backend != "onnxruntime":
        _say(f"the gate needs ONNX Runtime, not triton_backend {settings.triton_backend}: the heuristic decides")
        return set()
    return {gate_bundle.NAME}


async def _served(settings: Settings) -> Bundle | Ensemble:
    """Return the newest model, with what triton_backend needs: PyTorch's program is made when it is absent.

    Raises:
        ConfigurationError: the program cannot be made, or is a member's, which would be another than was weighed then.
    """
    from candlecast.models.ensemble import Ensemble, members_of
    from candlecast.server.champion import served

    first = served(settings)
    lacking = [bundle for bundle in members_of(first) if not bundle.has_program]
    if settings.triton_backend == "onnxruntime" or not lacking:
        return first
    bundle = lacking[0]
    if isinstance(first, Ensemble):
        raise ConfigurationError(
            f"triton_backend: {settings.triton_backend} needs model.pt2, which {bundle.path} lacks: give it one by"
            " `candlecast export`, then weigh the members again by `candlecast ensemble` (trees have none)"
        )
    _say(f"making model.pt2 for PyTorch in {bundle.path} (once)")
    command = [sys.executable, "-m", "candlecast", "export", str(bundle.path)]
    # A process of its own: torch would stay in this one for good.
    export = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT, stdin=DEVNULL)
    output, _ = await export.communicate()
    if export.returncode != 0:
        lines = output.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise ConfigurationError(f"triton_backend: {lines[-1].removeprefix('candlecast: ')}")
    return served(settings)


def _how_to_run(settings: Settings) -> dict[str, Any]:
    """Return what EmbeddedTriton needs to know of the setting triton_backend.

    Raises:
        ConfigurationError: requests would be larger than a run may be.
    """
    from candlecast.triton.repository import CPU_ROWS_MAX, GPU_ROWS_MAX

    on_gpu = settings.triton_backend == "pytorch"
    rows_max = GPU_ROWS_MAX if on_gpu else CPU_ROWS_MAX
    if settings.batch_rows_max > rows_max:
        raise ConfigurationError(
            f"batch_rows_max: {settings.batch_rows_max} is over {rows_max}, the most that triton_backend"
            f" {settings.triton_backend} runs at once"
        )
    if settings.triton_backend == "onnxruntime":
        return {}
    # Torch is in the application's own environment, with the train extra; it takes its time to be imported.
    return {
        "config": settings.triton_backend,
        "stub_env_dir": Path(sys.prefix),
        "gpu": on_gpu,
        "start_timeout_ms": _PYTORCH_START_TIMEOUT_MS,
    }


class Restarts:
    """Counts how often parts were started again since `up` began, in a file that the server tells Prometheus of."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)

    def of(self, part: str) -> Callable[[str], None]:
        """Return what a part's keeper says at each restart: it is counted and passed on to the user."""
        self._counts[part] = 0
        self._write()

        def say(line: str) -> None:
            self._counts[part] += 1
            self._write()
            _say(line)

        return say

    def _write(self) -> None:
        with suppress(OSError):  # a full disk is no reason not to start a part again
            aside = self._path.with_suffix(".new")
            aside.write_text(json.dumps(self._counts))
            aside.replace(self._path)


class ReadyChild:
    """A child process that counts as started once `ready` is true."""

    def __init__(self, child: Child, ready: Callable[[], Awaitable[bool]], log_path: Path) -> None:
        self._child = child
        self._ready = ready
        self._log_path = log_path

    async def __aenter__(self) -> Self:
        await self._child.__aenter__()
        try:
            await self._until_ready()
        except BaseException:
            await self._child.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._child.__aexit__(kind, error, tb)

    async def wait(self) -> int:
        return await self._child.wait()

    async def _until_ready(self) -> None:
        ended = asyncio.ensure_future(self._child.wait())
        ready = asyncio.ensure_future(lifecycle.poll(self._child.name, self._ready, timeout_ms=_START_TIMEOUT_MS))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() or ready.exception():
                kind = ConfigurationError if ended.done() and ended.result() == 78 else Unavailable
                raise kind(f"the {self._child.name} did not start: {lifecycle.last_lines(self._log_path, 3)}")
        finally:
            ended.cancel()
            ready.cancel()


def _child(name: str, argv: list[str], env: dict[str, str], logs: Path, settings: Settings) -> Child:
    return Child(
        name,
        [sys.executable, "-m", "candlecast", *argv],
        env=env,
        log_path=logs / f"{name}.log",
        stop_timeout_ms=2 * settings.stop_timeout_ms,  # it finishes what is under way and flushes, each within one
    )


async def _serving(address: str) -> bool:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(), timeout=1
            )
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


@contextmanager
def _only_instance(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock.

    Raises:
        ConfigurationError: it cannot be written, or another instance holds it.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        raise ConfigurationError(
            f"state_dir: cannot write {state_dir}: {error.strerror}; choose another by --state-dir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"another candlecast runs on {state_dir}: stop it, or choose another --state-dir"
            ) from error
        yield


def _require_free(name: str, address: str) -> None:
    require_loopback(name, address)
    host, _, port = address.rpartition(":")
    try:
        lifecycle.free_port("127.0.0.1" if host == "localhost" else host.strip("[]"), int(port))
    except OSError as error:
        raise ConfigurationError(
            f"{name}: cannot listen on {address}: {error.strerror}; choose another by --{name}"
        ) from error


@contextmanager
def _told(path: Path, text: str) -> Iterator[None]:
    """Keep a file with this text for as long as the body runs."""
    _write_private(path, text)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text + "\n")


def _command(name: str, here: Path) -> str:
    """Return what to type for a program: its name, or the path to ours when it is not installed."""
    return name if shutil.which(name) else str(here)


def _say(line: str) -> None:
    lifecycle.say(line, sys.stderr)
