"""Models over gRPC: convert, call, convert. Knows no file of a bundle and no traffic."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from candlecast.errors import InvalidRequest, ModelRefused, Refusal
from candlecast.models.bundle import FILES
from candlecast.models.ensemble import MEMBER_NAME
from candlecast.models.rollout import Rollouts
from candlecast.models.states import Event, State, Version
from candlecast.server.admin import Admin, Context
from candlecast.server.status import abort
from candlecast.server.wire import parsed
from candlecast.v1 import models_pb2 as pb
from candlecast.v1 import models_pb2_grpc

WHY_MAX: Final = 1_000
EVENTS_MAX: Final = 1_000
OF_A_MEMBER: Final = re.compile(rf"{MEMBER_NAME.pattern}/[1-9][0-9]{{0,8}}")
_STATES: Final[dict[State, Any]] = {state: pb.ModelState.Value(f"MODEL_STATE_{state.value}") for state in State}
_ALIASES: Final = (State.SHADOW, State.CHALLENGER, State.CHAMPION)


class ModelsService(models_pb2_grpc.ModelsServicer):
    """The methods of Models.

    Args:
        scratch: where pushed files lie until they are taken.
        bytes_max: of a pushed bundle.
    """

    def __init__(self, rollouts: Rollouts, admin: Admin, *, scratch: Path, bytes_max: int) -> None:
        self._rollouts = rollouts
        self._admin = admin
        self._scratch = scratch
        self._bytes_max = bytes_max

    async def List(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        try:
            self._admin.require(context)
            return pb.ListModelsResponse(models=[self._model(one) for one in await self._rollouts.list()])
        except Exception as error:
            await abort(context, error)

    async def Push(self, requests: AsyncIterator[pb.PushModelRequest], context: Context) -> pb.Model:
        try:
            who = self._admin.require(context)
            self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(prefix="push-", dir=self._scratch) as folder:
                why = await self._receive(requests, Path(folder))
                return self._model(await _whole(self._rollouts.push(Path(folder), who=who, why=why)))
        except Exception as error:
            await abort(context, error)

    async def Load(self, request: pb.LoadModelRequest, context: Context) -> pb.Model:
        try:
            who, request = self._admin.require(context), parsed(request)
            return self._model(await _whole(self._rollouts.load(request.version, who=who, why=_why(request.why))))
        except Exception as error:
            await abort(context, error)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.Model:
        try:
            who, request = self._admin.require(context), parsed(request)
            rollouts, number, why = self._rollouts, request.version, _why(request.why)
            alias = next((state for state in _ALIASES if _STATES[state] == request.alias), None)
            match alias:
                case State.SHADOW:
                    step = rollouts.shadow(number, who=who, why=why)
                case State.CHALLENGER:
                    step = rollouts.split(number, request.share, who=who, why=why)
                case State.CHAMPION:
                    step = rollouts.promote(number, who=who, why=why)
                case _:
                    raise InvalidRequest("alias", "expected SHADOW, CHALLENGER or CHAMPION")
            return self._model(await _whole(step))
        except Exception as error:
            await abort(context, error)

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.Model:
        try:
            who, request = self._admin.require(context), parsed(request)
            return self._model(await _whole(self._rollouts.rollback(who=who, why=_why(request.why))))
        except Exception as error:
            await abort(context, error)

    async def Unload(self, request: pb.UnloadModelRequest, context: Context) -> pb.Model:
        try:
            who, request = self._admin.require(context), parsed(request)
            return self._model(await _whole(self._rollouts.unload(request.version, who=who, why=_why(request.why))))
        except Exception as error:
            await abort(context, error)

    async def ListEvents(self, request: pb.ListModelEventsRequest, context: Context) -> pb.ListModelEventsResponse:
        try:
            self._admin.require(context)
            request = parsed(request)
            limit = min(request.limit or 100, EVENTS_MAX)
            events = await self._rollouts.events(request.version or None, limit)
            return pb.ListModelEventsResponse(events=[_event(one) for one in events])
        except Exception as error:
            await abort(context, error)

    async def _receive(self, requests: AsyncIterator[pb.PushModelRequest], folder: Path) -> str:
        """Write the files that come; return why they do."""
        why: str | None = None
        path: Path | None = None
        size = 0
        async for message in requests:
            message = parsed(message)
            why = _why(message.why) if why is None else why
            if message.file:
                if not _is_of_a_bundle(message.file) or (folder / message.file).exists():
                    raise InvalidRequest("file", f"{message.file!r} is no file of a bundle, or came before")
                path = folder / message.file
                path.parent.mkdir(parents=True, exist_ok=True)
            if path is None:
                raise InvalidRequest("file", "the first message names a file")
            size += len(message.data)
            if size > self._bytes_max:
                raise ModelRefused(Refusal.TOO_LARGE, f"more than model_bytes_max, {self._bytes_max} bytes, were sent")
            await asyncio.to_thread(_append, path, message.data)
        if why is None:
            raise InvalidRequest("file", "no file came")
        return why

    def _model(self, one: Version) -> pb.Model:
        model = pb.Model(
            name=one.name,
            version=one.version,
            bundle_sha256=one.sha256,
            state=_STATES[one.state],
            since_ms=one.since_ms,
            loaded=one.is_loaded,
            reason=one.reason,
            share=one.share,
            metrics_json=json.dumps(dict(one.metrics)),
            absent=[f"{name}: {error}" for name, error in self._rollouts.absent(one.version).items()],
        )
        rollouts = self._rollouts
        if (traffic := rollouts.traffic(one.version)) is not None:
            model.traffic.CopyFrom(
                pb.ModelTraffic(
                    rows=traffic.rows,
                    not_finite=traffic.not_finite,
                    failures=traffic.failures,
                    window_ms=traffic.window_ms,
                    confidence=traffic.confidence,
                    not_heard=rollouts.not_heard if one.state is State.SHADOW else 0,
                )
            )
        return model


async def _whole(step: Any) -> Version:
    """Take a step to its end, also when its caller leaves."""
    task: asyncio.Task[Version] = asyncio.ensure_future(step)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody else may look at it
    return await asyncio.shield(task)


def _why(text: str) -> str:
    return re.sub(r"[\x00-\x1f]+", " ", text)[:WHY_MAX] or "no reason given"


def _is_of_a_bundle(name: str) -> bool:
    """Say whether a file is one of a bundle, or of a member of an ensemble: MEMBER/VERSION/FILE."""
    member, slash, file = name.rpartition("/")
    return file in FILES and (not slash or OF_A_MEMBER.fullmatch(member) is not None)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _event(one: Event) -> pb.ModelEvent:
    return pb.ModelEvent(
        id=one.id,
        at_ms=one.at_ms,
        model=one.model,
        version=one.version,
        bundle_sha256=one.bundle_sha256,
        from_state=_STATES[one.from_state] if one.from_state else pb.MODEL_STATE_UNSPECIFIED,
        to_state=_STATES[one.to_state],
        who=one.who,
        why=one.why,
        metrics_json=json.dumps(dict(one.metrics)),
    )
