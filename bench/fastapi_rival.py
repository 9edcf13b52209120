"""The FastAPI baseline as a rival: started in a process of its own, asked over connections that stay open."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from candlecast.bench.baselines import Rival
from candlecast.models.bundle import MODEL, Bundle
from candlecast.values import F32
from tests.stack import free_port

BASELINE = Path(__file__).with_name("fastapi_baseline.py")
START_TIMEOUT_S, START_POLL_S, STOP_TIMEOUT_S = 30.0, 0.05, 10.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def fastapi(bundle: Bundle, windows: F32) -> AsyncIterator[Rival]:
    """Run it on the bundle's model and ask it for one of windows [B, 96, F] at a time.

    The HTTP client is written by hand: httpx takes longer for a request than the service.
    """
    port = free_port()
    command = [sys.executable, str(BASELINE), str(bundle.path / MODEL), str(port)]
    process = await asyncio.to_thread(subprocess.Popen, command)  # not by asyncio: it forks, and gRPC has threads here
    bodies = [window.tobytes() for window in windows]
    head = f"POST /forecast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(bodies[0])}\r\n\r\n".encode()
    idle: list[Connection] = []

    async def ask(i: int) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        writer.write(bodies[i % len(bodies)])
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.partition(b":")[2]))
        if not answer.startswith(b"HTTP/1.1 200") or len(body) != 80:
            raise AssertionError(f"the FastAPI baseline answered {answer!r}")
        idle.append((reader, writer))

    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                try:
                    await ask(0)
                    break
                except ConnectionError:
                    await asyncio.sleep(START_POLL_S)
        yield Rival(ask)
    finally:
        for _, writer in idle:
            writer.close()
        process.terminate()
        await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
