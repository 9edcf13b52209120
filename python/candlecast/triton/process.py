"""One run of tritonserver: started so that it dies with us, watched, stopped. Knows no command line and no model."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

STUB_CHECK_S = 0.5
DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: a frozen server must die, too
os.getppid() == int(sys.argv[1]) or sys.exit("error: the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class TritonProcess:
    """A running tritonserver, leader of the process group of its Python stubs."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self._process = process
        self._log_path = log_path

    @classmethod
    async def start(
        cls, python: Path, command: Sequence[str], variables: Mapping[str, str], log_path: Path
    ) -> TritonProcess:
        """Run `command` by way of the interpreter `python`; the log of the run before is kept as log_path + `.1`."""
        with _new_log(log_path) as output:
            process = await asyncio.create_subprocess_exec(
                *(str(python), "-ISc", DIE_WITH_PARENT, str(os.getpid()), *command),
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is ours to handle, and one signal reaches every stub
            )
        return cls(process, log_path)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Return the exit status, -N for signal N, or None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Return the exit status once tritonserver has ended.

        A dead stub is the end, too: Triton never replaces it and fails every request that meets it, so all is killed.
        """
        dead: set[str] = set()
        while self._process.returncode is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STUB_CHECK_S):
                    await self._process.wait()
            before, dead = dead, self._dead_stubs()
            if before & dead:
                log.warning("triton stub died pid=%s", ",".join(before & dead))
                self._kill()
        return self._process.returncode

    async def stop(self, timeout_s: float) -> None:
        """End it with SIGTERM, after `timeout_s` with SIGKILL, and its stubs with it."""
        process, started = self._process, time.monotonic()
        try:
            if process.returncode is None and not self._dead_stubs():  # with one, Triton would never be done
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(timeout_s):
                    await process.wait()
        except TimeoutError:
            log.warning("triton kill after_ms=%.0f", timeout_s * 1000)
        finally:
            self._kill()
            await process.wait()
        log.info("triton stopped exit=%s ms=%.0f", process.returncode, (time.monotonic() - started) * 1000)

    def reason(self) -> str:
        """Return the last error of the log, without its stack, or the log's last lines."""
        lines = [line for line in self._log_path.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if re.match(r"E\d{4} ", line) and "CudaDriverHelper" not in line]
        return re.sub(r'^E\d{4} .*?\] "|"$|\\n\\nAt:.*', "", errors[-1]) if errors else " | ".join(lines[-3:])

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _dead_stubs(self) -> set[str]:
        """Return the stubs that ended by themselves: Triton reaps only those that it ended, the rest stay zombies."""
        with suppress(OSError):
            threads = Path(f"/proc/{self.pid}/task").glob("*/children")
            stubs = [stub for children in threads for stub in children.read_text().split()]
            return {stub for stub in stubs if ") Z " in Path(f"/proc/{stub}/stat").read_text()}
        return set()


def _new_log(path: Path) -> BinaryIO:
    if path.exists():
        path.replace(f"{path}.1")
    return path.open("wb")
