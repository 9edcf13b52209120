"""I6: readiness is false within 3 s of a fault that makes a server unready, true 10 s after its end, and else true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TOLD_S, AGAIN_S = 3.0, 10.0
SLACK_S = 0.5
"""What the watching adds on a machine whose cores are all busy."""
POLL_S = 0.05
ANSWER_S = 2.5
"""Who gives no answer for so long is not ready."""


@dataclass
class Fault:
    """One that makes the server unready; over at once, as a kill is, unless told otherwise."""

    began_s: float
    over_s: float = 0.0
    repaired_s: float = float("inf")
    """When it was seen by other means that the damage is repaired; soon enough, nobody needs to be told."""

    def __post_init__(self) -> None:
        self.over_s = self.over_s or self.began_s

    def over(self) -> None:
        """Take note that the cause is gone."""
        self.over_s = time.monotonic()

    def repaired(self) -> None:
        self.repaired_s = time.monotonic()


class Health:
    """Watches readiness while it is entered: when it changed, and to what."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._task: asyncio.Task[None] | None = None
        self.changes: list[tuple[float, bool]] = []

    async def __aenter__(self) -> Health:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until_ready(self, limit_s: float) -> None:
        """Return once it is ready as far as is known."""
        async with asyncio.timeout(limit_s):
            while not (self.changes and self.changes[-1][1]):
                await asyncio.sleep(POLL_S)

    async def _watch(self) -> None:
        while True:
            asked_s = time.monotonic()
            is_ready = await serving(self._address, ANSWER_S)
            if not self.changes or self.changes[-1][1] != is_ready:
                self.changes.append((time.monotonic() if is_ready else asked_s, is_ready))
            await asyncio.sleep(POLL_S)


ALONE = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
"""Else it would share a connection with the users of this process, and wait as long as they do before it tries anew."""


async def serving(address: str, timeout_s: float = 1) -> bool:
    async with grpc.aio.insecure_channel(address, options=ALONE) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass(frozen=True)
class Told:
    """How long it took at worst, in seconds; None when there was no such fault."""

    told_s: float | None = None
    again_s: float | None = None


def check(changes: Sequence[tuple[float, bool]], faults: Sequence[Fault], *, stays_ready: bool) -> Told:
    """Compare what was seen of readiness with the faults there were.

    Args:
        changes: (when, to what), the first one being what was seen first.
        stays_ready: none of the faults is one that makes the server unready.

    Raises:
        AssertionError: readiness lied.
    """
    assert stays_ready == (not faults), "the row has to say which of its faults make the server unready"
    spells = _unready(changes)
    ends = [*(fault.began_s for fault in faults[1:]), float("inf")][: len(faults)]
    worst: list[tuple[float, float]] = []
    for fault, next_s in zip(faults, ends, strict=True):
        # A spell that begins just before the next fault is that one's: it is dated by when the question was asked.
        limit_s = min(fault.over_s + AGAIN_S, next_s - SLACK_S)
        mine = [spell for spell in spells if spell[1] > fault.began_s and spell[0] < limit_s]
        if not mine:
            assert fault.repaired_s - fault.began_s <= TOLD_S + SLACK_S, f"unready was never told (I6): {fault}"
            continue
        told_s, again_s = max(0.0, mine[0][0] - fault.began_s), max(0.0, mine[-1][1] - fault.over_s)
        is_soon = told_s <= TOLD_S + SLACK_S or fault.repaired_s - fault.began_s <= TOLD_S + SLACK_S
        assert is_soon, f"unready was told after {told_s:.1f} s (I6)"
        assert again_s <= AGAIN_S + SLACK_S, f"ready again {again_s:.1f} s after the fault was over (I6)"
        worst.append((told_s, again_s))
    strays = [spell for spell in spells if not any(_is_of(spell, fault) for fault in faults)]
    seconds = ", ".join(f"{end - begin:.2f} s" for begin, end in strays)
    assert not strays, f"unready without a fault that makes it so (I6): {len(strays)} times, {seconds}"
    if not worst:
        return Told()
    return Told(max(told for told, _ in worst), max(again for _, again in worst))


def _unready(changes: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    """Return the spells of not being ready: (begin, end), the last one perhaps without an end."""
    whole = [*changes, (float("inf"), True)]
    return [(begin, end) for (begin, is_ready), (end, _) in pairwise(whole) if not is_ready]


def _is_of(spell: tuple[float, float], fault: Fault) -> bool:
    return fault.began_s - SLACK_S <= spell[0] <= fault.over_s + AGAIN_S
