"""Triton's model-repository protocol: load, unload, what is there. Knows no file of the repository.

No deadline or cancellation is ever sent (see client.py): who waits too long leaves, and the call goes on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from candlecast.errors import DeadlineExceeded, ModelUnavailable
from candlecast.triton.client import CHANNEL_OPTIONS

CONTROL_HEADER: Final = "triton-grpc-protocol-candlecast"
CLOSE_TIMEOUT_S: Final = 5.0
"""Longest wait for a load under way, when the server stops."""
READY: Final = "READY"
UNLOADING: Final = "UNLOADING"


class Control:
    """A connection to the repository protocol of the Triton at `address` (HOST:PORT); an async context manager.

    Args:
        key: what opens the protocol, if it is restricted.
        timeout_ms: longest wait for a load or unload.
    """

    def __init__(self, address: str, key: str | None, *, timeout_ms: int) -> None:
        self._address = address
        self._metadata = [(CONTROL_HEADER, key)] if key else []
        self._timeout_s = timeout_ms / 1000
        self._calls: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._calls:
            await asyncio.wait(self._calls, timeout=min(self._timeout_s, CLOSE_TIMEOUT_S))
        await self._channel.close()

    async def load(self, name: str) -> None:
        """Have Triton load what the repository holds of a model now: new versions come, absent ones go, others stay.

        Raises:
            ModelUnavailable: Triton is away, or does not load one of them; says why. What was loaded stays.
            DeadlineExceeded: it is not done within the timeout.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        await self._call(self._stub.RepositoryModelLoad, request)

    async def unload(self, name: str) -> None:
        """Have Triton end a model of which the repository holds no version any more; raises as `load`."""
        request = service_pb2.RepositoryModelUnloadRequest(model_name=name)
        await self._call(self._stub.RepositoryModelUnload, request)

    async def versions(self, name: str) -> dict[int, tuple[str, str]]:
        """Return state and reason of each version that Triton knows of; raises as `load`."""
        answer = await self._call(self._stub.RepositoryIndex, service_pb2.RepositoryIndexRequest())
        return {
            int(one.version): (str(one.state), str(one.reason))
            for one in answer.models
            if one.name == name and one.version.isdigit()
        }

    async def _call(self, method: Any, request: Any) -> Any:
        async def answered() -> Any:
            return await method(request, metadata=self._metadata)

        call = asyncio.create_task(answered())
        self._calls.add(call)
        call.add_done_callback(self._forget)
        await asyncio.wait({call}, timeout=self._timeout_s)
        if not call.done():
            raise DeadlineExceeded(f"Triton at {self._address} is not done within {self._timeout_s:g} s")
        error = call.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            raise ModelUnavailable(f"Triton at {self._address}: {error.code().name}: {error.details()}") from error
        return call.result()

    def _forget(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # nobody may be waiting any more
