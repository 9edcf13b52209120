"""One model behind Triton's gRPC door: arrays in, arrays and a version out. Knows neither features nor forecasts."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from candlecast.errors import CandlecastError, DeadlineExceeded, InvalidRequest, ModelUnavailable, Overloaded
from candlecast.triton.breaker import Breaker
from candlecast.triton.shared_memory import PREFIX, SharedWindows, owner_is_gone
from candlecast.triton.stream import InferStream, Refused

log = logging.getLogger(__name__)

KEY_HEADER = "triton-grpc-protocol-candlecast-memory"
"""The gRPC metadata that opens the shared-memory protocol of our tritonserver."""
CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # Triton takes pings closer than 5 minutes for strikes and hangs up at the third: ping seldom, and in calls only.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A restarted Triton must be found again within a second, whatever other channels saw of it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]
GOLDEN_TIMEOUT_MS = 1_500
"""Longest golden check, where the timeout is not shorter: with a check each second, an absence shows within 3 s. Triton
takes 1 s to say that a stub is dead."""
RELATIVE_TOLERANCE = 2e-3
MISTAKES = r"INVALID_ARGUMENT|shape|batch-size|unexpected inference (in|out)put|expected \\d+ inputs"
"""How Triton speaks of a request that is wrong in itself; on a stream there is no status to tell."""
ABSOLUTE_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Inference:
    outputs: NDArray[np.float32]  # [batch, output], read-only
    version: str  # of the model that computed it


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    dtype: str  # as Triton spells it: FP32
    shape: tuple[int, ...]  # -1 is the batch


@dataclass(frozen=True, slots=True)
class Metadata:
    versions: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class TritonModel:
    """A connection to one model; an async context manager.

    Triton 2.51 mishandles deadlines and cancellations (a version may stay UNLOADING for ever), so none is ever sent:
    a caller that waits too long, or is cancelled, leaves, and its answer is dropped when it comes. While a breaker is
    open `infer` refuses at once; a golden check that passes closes it.
    """

    def __init__(
        self,
        address: str,
        name: str,
        timeout_ms: int,
        *,
        version: str = "",
        late_calls_max: int = 16,
        failures_max: int = 5,
        open_ms: int = 2_000,
        shared: SharedWindows | None = None,
        key: str | None = None,
    ) -> None:
        """Describe the model `name` at `address` (HOST:PORT).

        Args:
            timeout_ms: longest wait for one answer.
            version: which is asked; the newest when empty.
            late_calls_max: calls nobody waits for any more, at which new ones are refused at once.
            failures_max: failures in a row that open the breaker.
            open_ms: how long it refuses before it lets one request through.
            shared: memory to hand windows over in, where Triton takes it; what lies elsewhere is copied there.
            key: what opens Triton's shared-memory protocol, if it is restricted.
        """
        self.address = address
        self.name = name
        self._version = version
        self._timeout_s = timeout_ms / 1000
        self._late_calls_max = late_calls_max
        self._stream: InferStream | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[Any]] = set()
        self._breaker = Breaker(name, failures_max=failures_max, open_ms=open_ms)
        self._instances = 0  # of the model in Triton; 0 until asked
        self._shared = shared
        self._metadata = [(KEY_HEADER, key)] if key else []

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        if self._shared is not None:
            self._shared.users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let Triton finish what it has, as long as one answer may take: closing the channel cancels the rest."""
        try:
            if self._calls:
                await asyncio.wait(self._calls, timeout=self._timeout_s)
        finally:
            if self._stream is not None:
                await self._stream.close()
            if self._shared is not None:
                self._shared.users -= 1
                if self._shared.registration and not self._shared.users:
                    self._shared.registration = 0
                    with suppress(CandlecastError):
                        await self._unregister(self._shared.name)
            await self._channel.close()

    async def infer(self, windows: NDArray[np.float32], *, timeout_ms: int | None = None) -> Inference:
        """Run the model on `windows` [batch, ...] and return one row of outputs for each.

        Args:
            timeout_ms: another than the model's.

        Raises:
            ModelUnavailable: Triton or the model is away, or answered nonsense, or the breaker is open; retryable.
            Overloaded: Triton's own queue is full; retryable.
            DeadlineExceeded: no answer within the timeout.
            InvalidRequest: Triton refuses this shape or batch; a retry is of no use.
        """
        with self._breaker.request():
            return await self._infer(windows, self._timeout_s if timeout_ms is None else timeout_ms / 1000)

    async def _infer(self, windows: NDArray[np.float32], timeout_s: float) -> Inference:
        request = service_pb2.ModelInferRequest(
            model_name=self.name,
            model_version=self._version,
            inputs=[{"name": "features", "datatype": "FP32", "shape": windows.shape}],
        )
        registration, windows = await self._share(request, windows)
        if not registration:
            request.raw_input_contents.append(np.ascontiguousarray(windows, np.float32).tobytes())
        try:
            # Triton reads them until it answers, however late that is.
            answer = await self._call(partial(self._exchange, windows=windows), request, timeout_s)
        except ModelUnavailable as error:
            if not (registration and self._shared is not None and "shared memory region" in str(error)):
                raise
            self._shared.forgotten(registration)
            return await self._infer(windows, timeout_s)
        try:
            (tensor,), (content,) = answer.outputs, answer.raw_output_contents
            outputs = np.frombuffer(content, np.float32).reshape(len(windows), -1)
        except ValueError as error:
            raise ModelUnavailable(f"{self.name} answered {len(windows)} windows with nonsense: {error}") from error
        if tensor.datatype != "FP32" or tuple(tensor.shape) != outputs.shape:
            raise ModelUnavailable(f"{self.name} answered {len(windows)} windows with {tensor}")
        return Inference(outputs, answer.model_version)

    async def _share(self, request: Any, windows: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
        """Say in the request where windows lie in shared memory; return by which registration, and those that do."""
        if self._shared is None or not len(windows):
            return 0, windows
        if not self._shared.registration:
            await self._register()
        if self._shared is None or not (registration := self._shared.registration):  # Triton does not take it
            return 0, windows
        place = self._shared.place_of(windows)
        if place is None:
            windows = self._shared.joined([windows])
            place = self._shared.place_of(windows)
        if place is None:
            return 0, windows
        parameters = request.inputs[0].parameters
        parameters["shared_memory_region"].string_param = self._shared.name
        parameters["shared_memory_offset"].int64_param = place
        parameters["shared_memory_byte_size"].int64_param = windows.nbytes
        return registration, windows

    async def _register(self) -> None:
        """Make the shared memory known to Triton, and forget what others left there; without, messages carry windows.

        Raises:
            ModelUnavailable, DeadlineExceeded: Triton does not answer.
        """
        shared = self._shared
        assert shared is not None, "there is something to register"
        async with shared.registering:
            if shared.registration or self._shared is None:
                return
            register, status = (
                partial(getattr(self._stub, f"SystemSharedMemory{name}"), metadata=self._metadata)
                for name in ("Register", "Status")
            )
            try:
                regions = (await self._call(status, service_pb2.SystemSharedMemoryStatusRequest())).regions
                for name in regions:
                    if name == shared.name or (name.startswith(PREFIX) and owner_is_gone(name)):
                        await self._unregister(name)
                request = service_pb2.SystemSharedMemoryRegisterRequest(
                    name=shared.name, key=f"/{shared.name}", offset=0, byte_size=shared.size
                )
                await self._call(register, request)
                shared.registered()
            except CandlecastError as error:
                cause = error.__cause__
                is_away = not isinstance(cause, grpc.aio.AioRpcError) or cause.code() is grpc.StatusCode.UNAVAILABLE
                if is_away and "restricted" not in str(error):
                    raise
                log.warning("no shared memory with Triton, messages carry the windows: %s", error)
                shared.users -= 1
                self._shared = None

    async def _unregister(self, region: str) -> None:
        """Have Triton let go of a region: it refuses until it has put away the last request that read it.

        Raises:
            ModelUnavailable, DeadlineExceeded: it did not within the timeout of an answer.
        """
        unregister = partial(self._stub.SystemSharedMemoryUnregister, metadata=self._metadata)
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=region)
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                await self._call(unregister, request)
                return
            except ModelUnavailable as error:
                if "in use" not in str(error) or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.01)

    async def metadata(self) -> Metadata:
        """Ask for the loaded versions and the tensors' names, types and shapes.

        Raises:
            ModelUnavailable, DeadlineExceeded: as `infer`.
        """
        answer = await self._call(self._stub.ModelMetadata, service_pb2.ModelMetadataRequest(name=self.name))
        return Metadata(tuple(answer.versions), _tensors(answer.inputs), _tensors(answer.outputs))

    async def check_golden(self, inputs: NDArray[np.float32], outputs: NDArray[np.float32]) -> str:
        """Compare the model's answer to `inputs` [batch, ...] with `outputs` [batch, output]; return its version.

        This is the canary: Triton calls itself ready when its Python stub is dead or computes garbage. Each instance of
        the model gets its share of the rows at the same time, for one that is dead would be met every other time only.

        Raises:
            ModelUnavailable: no answer in time, or other values; the message says by how much.
            Overloaded: Triton is busy, which says nothing of its values.
        """
        with self._breaker.request(canary=True):
            try:
                shares = np.array_split(inputs, min(await self._count_instances(), len(inputs)))
                timeout_s = min(self._timeout_s, GOLDEN_TIMEOUT_MS / 1000)
                answers = await asyncio.gather(*(self._infer(share, timeout_s) for share in shares))
            except DeadlineExceeded as error:
                raise ModelUnavailable(f"the golden inputs got no answer: {error}") from error
            version = answers[0].version
            _compare(f"{self.name} version {version}", np.concatenate([a.outputs for a in answers]), outputs)
        return version

    async def ready(self) -> bool:
        """Say whether Triton claims that the model is loaded; only `check_golden` proves it.

        Raises:
            DeadlineExceeded: no answer within the timeout.
        """
        try:
            answer = await self._call(self._stub.ModelReady, service_pb2.ModelReadyRequest(name=self.name))
        except ModelUnavailable:
            return False
        return bool(answer.ready)

    async def server_id(self) -> str:
        """Return the `--id` of the tritonserver that answers; raises as `metadata`."""
        answer = await self._call(self._stub.ServerMetadata, service_pb2.ServerMetadataRequest())
        return str(answer.name)

    async def _count_instances(self) -> int:
        if not self._instances:
            answer = await self._call(self._stub.ModelConfig, service_pb2.ModelConfigRequest(name=self.name))
            groups = answer.config.instance_group
            self._instances = sum(group.count * max(1, len(group.gpus)) for group in groups) or 1
        return self._instances

    async def _exchange(self, request: Any, *, windows: NDArray[np.float32]) -> Any:
        """Ask over the stream; `windows` are only held."""
        if self._stream is None or self._stream.broken:
            self._stream = InferStream(self._stub)
        return await self._stream.exchange(request)

    async def _call(self, method: Callable[[Any], Any], request: Any, timeout_s: float | None = None) -> Any:
        timeout_s = timeout_s or self._timeout_s
        if len(self._late) >= self._late_calls_max:
            raise ModelUnavailable(f"{self.name} owes {len(self._late)} answers that nobody waits for any more")
        call = asyncio.create_task(_answer(method, request))
        self._calls.add(call)
        call.add_done_callback(self._forget)
        try:
            await asyncio.wait({call}, timeout=timeout_s)  # unlike wait_for, it never cancels the call
        finally:
            if not call.done():
                self._late.add(call)
        if not call.done():
            if self._stream is not None:
                self._stream.retire()
            raise DeadlineExceeded(f"{self.name} did not answer within {timeout_s * 1000:.0f} ms")
        if call.cancelled():
            raise ModelUnavailable(f"the connection to {self.address} was closed")
        error = call.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            raise self._translated(f"{error.code().name}: {error.details()}") from error
        if isinstance(error, Refused):
            translated = self._translated(str(error))
            if isinstance(translated, ModelUnavailable) and self._stream is not None:
                self._stream.retire()  # a Triton that stops waits for open streams, idle ones too
            raise translated from error
        return call.result()

    def _forget(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        self._late.discard(call)
        if not call.cancelled():
            call.exception()  # a dropped answer may be an error, and nobody else will look

    def _translated(self, words: str) -> CandlecastError:
        if "maximum queue size" in words:
            return Overloaded(f"{self.name}: {words}")
        if re.search(MISTAKES, words):
            return InvalidRequest("windows", words)
        return ModelUnavailable(f"{self.name} at {self.address}: {words}")


def _compare(who: str, got: NDArray[np.float32], golden: NDArray[np.float32]) -> None:
    if got.shape != golden.shape:
        raise ModelUnavailable(f"{who} answers the golden inputs with shape {got.shape}, not {golden.shape}")
    if not np.isfinite(got).all():
        raise ModelUnavailable(f"{who} answers the golden inputs with values that are not finite")
    worst, largest = float(np.abs(got - golden).max()), float(np.abs(golden).max())
    if worst > RELATIVE_TOLERANCE * largest + ABSOLUTE_TOLERANCE:
        relative = worst / largest if largest else float("inf")
        raise ModelUnavailable(f"{who} computes wrong values: maximum relative error {relative:.2g}")


async def _answer(method: Callable[[Any], Any], request: Any) -> Any:
    return await method(request)


def _tensors(tensors: Any) -> tuple[Tensor, ...]:
    return tuple(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)
