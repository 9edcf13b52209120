"""Rows of the network: a way that stalls, breaks or crawls, a frozen client, and clients killed while they stream."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from tests.faults.holdings import Holdings
from tests.faults.load import Load
from tests.faults.scene import Scene, Seen, part, row
from tests.stack import free_port

STALL_S = 3.0
CRAWL_BYTES_PER_S = 20_000
CLIENT = """
import asyncio, sys
from candlecast.client import AsyncClient
from tests.faults.load import Load
async def one(load, i):
    async def bars():
        yield load.batch(load_from + i % 50)
        print("up", flush=True)
        await asyncio.Event().wait()
    async with AsyncClient(sys.argv[1]) as client:
        async for _ in client.stream(bars()): pass
async def main():
    load = Load(sys.argv[1], symbols=2, seed=int(sys.argv[2]))
    await asyncio.gather(*(one(load, i) for i in range(int(sys.argv[3]))))
load_from = 0
asyncio.run(main())
"""


@dataclass
class Proxy:
    """A way to `target` on a port of its own that can be made bad, while it is entered."""

    target: str
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    bytes_per_s: float = 0.0  # 0: as fast as it goes
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self.flowing.set()
        host, _, port = self.address.rpartition(":")
        self._server = await asyncio.start_server(self._take, host, int(port))
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()

    def reset(self) -> None:
        """End every connection with RST, whatever is under way."""
        for writer in list(self._writers):
            there = writer.get_extra_info("socket")
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            to_reader, to_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        self._writers |= {writer, to_writer}
        await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer), return_exceptions=True)
        self._writers -= {writer, to_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4_096 if self.bytes_per_s else 65_536):
                await self.flowing.wait()
                if self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            with suppress(OSError, RuntimeError):
                writer.close()


@row(10, "network: stalled, reset, crawling; a client that does not read", 30, stays_ready=True)
async def bad_network(scene: Scene) -> Seen:
    """Another user behind a bad way loses nothing, and the first one, beside it, is not kept waiting."""
    seen = Seen(notes={"kinds": {}})
    async with Proxy(scene.stack.grpc) as proxy:
        other = Load(proxy.address, symbols=8, rate=20, seed=scene.dice.randrange(10**6, 10**7))
        async with other:
            scene.before = await Holdings.of(scene.stack)
            for i in range(scene.times):
                kind = ("reset", "stalled", "crawling")[i % 3]
                if kind == "reset":
                    proxy.reset()
                elif kind == "stalled":
                    proxy.flowing.clear()
                else:
                    proxy.bytes_per_s = CRAWL_BYTES_PER_S
                if kind != "reset":
                    await scene.load.until_answered(int(10 * STALL_S), 4 * STALL_S)
                proxy.flowing.set()
                proxy.bytes_per_s = 0.0
                since_s = time.monotonic()
                await other.until_answered(3)
                seen.add(recover_s=time.monotonic() - since_s)
                seen.notes["kinds"][kind] = seen.notes["kinds"].get(kind, 0) + 1
    scene.others.append(other)
    return seen


@row(13, "clients killed -9 in the middle of their streams", 1_000, stays_ready=True)
async def cancel_storm(scene: Scene) -> Seen:
    """Storms of up to 50 clients of one process; the first one warms allocator and pools up."""
    server, at_once = part(scene, "server"), min(scene.times, 50)
    files = server.num_fds()
    for storm in range(max(2, scene.times // at_once)):
        await killed_clients(scene, at_once, seed=scene.dice.randrange(10**6))
        if storm == 0:
            await closed(server, files)
            scene.before = await Holdings.of(scene.stack)
    return Seen(injections=max(2, scene.times // at_once), notes={"clients": scene.times})


async def killed_clients(scene: Scene, count: int, *, seed: int) -> None:
    arguments = [sys.executable, "-c", CLIENT, scene.stack.grpc, str(seed), str(count)]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        for _ in range(count):
            assert await process.stdout.readline(), "the client ended by itself"
    process.kill()
    await process.wait()


async def closed(server: psutil.Process, files: int, limit_s: float = 10) -> None:
    """Return once the connections of those who were killed are gone, or after the limit."""
    deadline = time.monotonic() + limit_s
    while server.num_fds() > files + 4 and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
