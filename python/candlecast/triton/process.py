"""One run of tritonserver: a child whose dead stub is its own end. Knows no command line and no model."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from candlecast.lifecycle import Child, last_lines

log = logging.getLogger(__name__)

STUB_CHECK_S = 0.5
STUB_LOOK_S = 0.1
"""Longer than a stub that gives way while it loads is stopped at a time."""


class TritonProcess(Child):
    """A running tritonserver, leader of the process group of its Python stubs."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if dead := self._dead_stubs():
            await asyncio.sleep(STUB_LOOK_S)
            if dead & self._dead_stubs():  # with one, Triton would never be done
                self.kill()
        await super().__aexit__(kind, error, tb)

    async def wait(self) -> int:
        """Return the exit status once tritonserver has ended.

        A dead or stopped stub is the end, too: Triton never replaces it and fails every request that meets it, and may
        abort when one that stood still for a second goes on. So all is killed.
        """
        dead = set[tuple[str, str]]()
        while (code := self.returncode) is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STUB_CHECK_S):
                    await super().wait()
            before, dead = dead, self._dead_stubs()
            if still := before & dead:
                log.warning("triton stub dead or stopped pid=%s", ",".join(pid for pid, _ in still))
                self.kill()
        return code

    def reason(self) -> str:
        """Return the last error of this run's log, without its stack, or the log's last lines."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        errors = [line for line in lines if re.match(r"E\d{4} ", line) and "CudaDriverHelper" not in line]
        return re.sub(r'^E\d{4} .*?\] "|"$|\\n\\nAt:.*', "", errors[-1]) if errors else last_lines(self.log_path, 3)

    def _dead_stubs(self) -> set[tuple[str, str]]:
        """Return the stubs that stand still or ended by themselves, each with how long it has run by now.

        Triton reaps only those that it ended, the rest stay zombies. One that gives way while it loads stands still
        for a moment, again and again, and has run in between.
        """
        with suppress(OSError):
            threads = Path(f"/proc/{self.pid}/task").glob("*/children")
            stubs = [stub for children in threads for stub in children.read_text().split()]
            states = {stub: Path(f"/proc/{stub}/stat").read_text().rpartition(") ")[2][0] for stub in stubs}
            return {(stub, _ran(stub)) for stub, state in states.items() if state in "ZT"}
        return set()


def _ran(pid: str) -> str:
    """Return for how many ns a process has run, where the kernel counts it."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/schedstat").read_text().split()[0]
    return ""
