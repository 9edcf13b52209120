"""A tritonserver of our own on a loopback port, ready when its models are. Knows its command line, no arrays."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from candlecast.errors import ConfigurationError, DeadlineExceeded, ModelUnavailable
from candlecast.lifecycle import free_port
from candlecast.triton.client import KEY_HEADER, TritonModel
from candlecast.triton.environment import Environment
from candlecast.triton.process import TritonProcess
from candlecast.triton.watchdog import Canary, until_sick

log = logging.getLogger(__name__)

SHM_DIR = Path("/dev/shm")
POLL_S = 0.02


class EmbeddedTriton:
    """tritonserver as an async context manager: models served inside, no process and no shared memory left outside.

    It may be entered again after it was left. Only one at a time may use a work_dir.
    """

    def __init__(
        self,
        *,
        env_dir: Path,
        repository: Path,
        models: Sequence[str] | Callable[[], Sequence[str]],
        work_dir: Path,
        config: str = "",
        stub_env_dir: Path | None = None,
        gpu: bool = False,
        port: int = 0,
        start_timeout_ms: int = 30_000,
        stop_timeout_ms: int = 10_000,
        canary: Callable[[str], AbstractAsyncContextManager[Canary]] | None = None,
        canary_interval_ms: int = 1_000,
        canary_limit_ms: int = 2_000,
        canary_failures_max: int = 3,
        recycle_h: float = 0.0,
        metrics_port: int = 0,
    ) -> None:
        """Describe a server of `models` from the model repository `repository`.

        Args:
            models: their names; a function is asked at each start.
            env_dir: the virtual environment of tritonserver.
            work_dir: for the backend directory and triton.log (triton.log.1 is the run before); made if absent.
            config: which of each model's `configs` to take instead of config.pbtxt.
            stub_env_dir, gpu: as in Environment.find.
            port: of gRPC on 127.0.0.1; 0 takes a free one at each start.
            stop_timeout_ms: longest orderly shutdown, before SIGKILL.
            canary: opened with the address while `wait` waits, it runs every canary_interval_ms for at most
                canary_limit_ms; after canary_failures_max failures in a row tritonserver is killed.
            recycle_h: hours after which `wait` returns 0 while tritonserver is well, for an orderly restart; 0: never.
            metrics_port: of Triton's own HTTP door for Prometheus on 127.0.0.1; 0: it has none.
        """
        self._env_dir = env_dir.absolute()
        self._repository = repository.absolute()
        self._models_now = models if callable(models) else lambda: models
        self._models: Sequence[str] = ()
        self._work_dir = work_dir.absolute()
        self._config = config
        self._stub_env_dir = stub_env_dir.absolute() if stub_env_dir else None
        self._gpu = gpu
        self._port = port
        self._start_timeout_s = start_timeout_ms / 1000
        self._stop_timeout_ms = stop_timeout_ms
        self._canary = canary
        self._canary_interval_ms = canary_interval_ms
        self._canary_limit_ms = canary_limit_ms
        self._canary_failures_max = canary_failures_max
        self._recycle_h = recycle_h
        self._metrics_port = metrics_port
        self._run: TritonProcess | None = None
        self.address = f"127.0.0.1:{port}"
        """HOST:PORT of gRPC; valid inside."""
        self.shm_prefix = f"candlecast-{hashlib.sha256(bytes(self._work_dir)).hexdigest()[:12]}-"
        """What the names of its shared memory begin with; Triton adds a random UUID to each."""
        self.control_header = ("triton-grpc-protocol-candlecast", secrets.token_urlsafe(24))
        """The gRPC metadata that opens Triton's model-repository protocol (load, unload)."""
        self.memory_key = secrets.token_urlsafe(24)
        """What opens its shared-memory protocol, for those who ask it for forecasts."""

    @property
    def pid(self) -> int:
        """Return the process id of tritonserver, which is its stubs' process group as well."""
        assert self._run is not None, "tritonserver runs only inside its context"
        return self._run.pid

    async def wait(self) -> int:
        """Return tritonserver's exit status, -N for signal N; then leave.

        That is once it or a stub of it has ended, once its canary had it killed, or, with 0, when it is to be recycled.
        """
        assert self._run is not None, "tritonserver runs only inside its context"
        watch = asyncio.create_task(self._watch(self._run))
        try:
            async with asyncio.timeout(self._recycle_h * 3600 or None):
                return await self._run.wait()
        except TimeoutError:
            log.info("triton recycle pid=%d after_h=%g", self.pid, self._recycle_h)
            return 0
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, run: TritonProcess) -> None:
        if self._canary is None:
            return
        async with self._canary(self.address) as canary:
            why = await until_sick(
                canary,
                interval_ms=self._canary_interval_ms,
                limit_ms=self._canary_limit_ms,
                failures_max=self._canary_failures_max,
            )
            log.warning("triton killed pid=%d failures=%d error=%s", run.pid, self._canary_failures_max, why)
            run.kill()

    async def __aenter__(self) -> Self:
        """Start tritonserver and return once it serves every model.

        Raises:
            ConfigurationError: the environment, a path, the repository or the port is not usable.
            ModelUnavailable: tritonserver ended or was not ready in time; the message quotes its log.
        """
        started = time.monotonic()
        self._models = self._models_now()
        environment = self._prepare()
        identity = f"candlecast-{secrets.token_hex(8)}"
        command = [str(environment.server), f"--id={identity}", *self._arguments()]
        log_path = self._work_dir / "triton.log"
        if log_path.exists():
            log_path.replace(f"{log_path}.1")  # one run, one log: its errors are quoted
        self._run = TritonProcess(
            "triton",
            command,
            env=environment.variables,
            log_path=log_path,
            stop_timeout_ms=self._stop_timeout_ms,
            death_signal=signal.SIGKILL,  # a frozen server must die, too
        )
        await self._run.__aenter__()
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._until_ready(self._run, identity)
        except TimeoutError as error:
            await self.__aexit__()
            limit = f"{self._start_timeout_s:g} s"
            raise ModelUnavailable(f"tritonserver was not ready within {limit}: {self._run.reason()}") from error
        except BaseException:
            await self.__aexit__()
            raise
        log.info("triton ready address=%s pid=%d ms=%.0f", self.address, self.pid, (time.monotonic() - started) * 1000)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._run is not None, "tritonserver runs only inside its context"
        try:
            await self._run.__aexit__(None, None, None)
        finally:
            self._sweep()

    def _prepare(self) -> Environment:
        """Check what can be checked, choose the port, and lay out the work directory."""
        environment = Environment.find(self._env_dir, self._stub_env_dir, gpu=self._gpu)
        config = f"configs/{self._config}.pbtxt" if self._config else "config.pbtxt"
        for path in (self._work_dir, self._repository):
            if not re.fullmatch(r"[\w./+-]+", str(path)):
                raise ConfigurationError(f"{path}: Triton hands paths to a shell unquoted: use letters, digits, ._+-")
        for name in self._models:
            if not (self._repository / name / config).is_file():  # without it Triton would take config.pbtxt
                raise ConfigurationError(f"{self._repository} holds no model {name!r} (no {name}/{config})")
        try:
            self.address = f"127.0.0.1:{free_port(port=self._port)}"
        except OSError as error:
            raise ConfigurationError(f"Triton's port 127.0.0.1:{self._port} is not free: {error.strerror}") from error
        self._work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        environment.lay_out(self._work_dir / "backends")
        self._sweep()
        return environment

    def _arguments(self) -> list[str]:
        restricted = f"model-repository,trace,logging:candlecast={self.control_header[1]}"
        memory = f"shared-memory:{KEY_HEADER.removeprefix('triton-grpc-protocol-')}={self.memory_key}"
        return [
            f"--model-repository={self._repository}",
            f"--backend-directory={self._work_dir / 'backends'}",
            *([f"--model-config-name={self._config}"] if self._config else []),
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in self._models),
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.address.rpartition(':')[2]}",
            f"--grpc-restricted-protocol={restricted}",
            f"--grpc-restricted-protocol={memory}",
            "--allow-http=false",
            # A door of its own: with HTTP off nobody can send it a request for an inference.
            *(
                ["--metrics-address=127.0.0.1", f"--metrics-port={self._metrics_port}"]
                if self._metrics_port
                else ["--allow-metrics=false"]
            ),
            f"--backend-config=python,shm-region-prefix-name={self.shm_prefix}",
            "--pinned-memory-pool-byte-size=0",
        ]

    async def _until_ready(self, run: TritonProcess, identity: str) -> None:
        for name in self._models:
            async with TritonModel(self.address, name, timeout_ms=1_000) as model:
                while not await _serves(model, identity):
                    if run.returncode is not None:
                        raise ModelUnavailable(f"tritonserver did not start: {run.reason()}")
                    await asyncio.sleep(POLL_S)

    def _sweep(self) -> None:
        for path in SHM_DIR.glob(f"{self.shm_prefix}*"):
            path.unlink(missing_ok=True)


async def _serves(model: TritonModel, identity: str) -> bool:
    """Say whether the server of this identity, no other that may listen on the port, has loaded the model."""
    try:
        return await model.server_id() == identity and await model.ready()
    except (ModelUnavailable, DeadlineExceeded):
        return False
