"""The live feed at the door: the same events by SSE, for pages, and by WebSocket, for programs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from candlecast.dashboard.feed import Feed
from candlecast.dashboard.listeners import Listener, Wanted
from candlecast.dashboard.problems import RESPONSES
from candlecast.dashboard.watch import Watch
from candlecast.errors import Overloaded

FLUSH_MS: Final = 250
"""Pause between two messages to one listener; what comes meanwhile goes with the next."""
STATUS_S: Final = 2.0
"""A status goes out so often, which is the sign of life too."""
SYMBOLS_PER_LISTENER_MAX: Final = 1_000
FILTERS_MAX: Final = 8
SEND_TIMEOUT_S: Final = 20.0
"""A listener that takes nothing for so long is let go."""
router = APIRouter(tags=["live"], responses=RESPONSES)

Direction = Literal["LONG", "SHORT", "NEUTRAL"]
Symbols = Annotated[
    list[str] | None, Query(max_length=SYMBOLS_PER_LISTENER_MAX, description="only these; default: all")
]
Directions = Annotated[list[Direction] | None, Query(description="only these; default: all")]
MinConfidence = Annotated[float, Query(ge=0, le=1)]


class Filter(BaseModel):
    """Which forecasts; an empty one takes all."""

    model_config = ConfigDict(extra="forbid")

    symbol: list[str] | None = Field(None, max_length=SYMBOLS_PER_LISTENER_MAX)
    direction: list[Direction] | None = None
    min_confidence: float = 0.0


class Filters(BaseModel):
    """What a listener wants: whatever one of them takes."""

    any: list[Filter] = Field(max_length=FILTERS_MAX)


@router.get("/api/ml/live", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def events(
    request: Request, symbol: Symbols = None, direction: Directions = None, min_confidence: MinConfidence = 0.0
) -> StreamingResponse:
    """Events `forecasts` (an array, the newest of each symbol) and `status`, for as long as you listen (SSE)."""
    state = request.app.state
    if state.feed.is_full:
        raise Overloaded("too many look on: close some pages")
    wishes = _wishes([Filter(symbol=symbol, direction=direction, min_confidence=min_confidence)])
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_heard(state.feed, state.watch, wishes), media_type="text/event-stream", headers=headers)


@router.websocket("/api/ml/live/ws")
async def socket(
    websocket: WebSocket, symbol: Symbols = None, direction: Directions = None, min_confidence: MinConfidence = 0.0
) -> None:
    """The same as messages {"event": …, "data": …}.

    A message {"any": [filter, …]}, each with the fields symbol, direction and min_confidence, replaces what was asked
    for in the address: what one of them takes comes.
    """
    origin = websocket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != websocket.headers.get("host"):
        await websocket.close(1008, "another site's page may not listen")
        return
    state = websocket.app.state
    if state.feed.is_full:
        await websocket.close(1013, "too many look on")
        return
    await websocket.accept()
    await state.feed.awake()
    with state.feed.listen(
        _wishes([Filter(symbol=symbol, direction=direction, min_confidence=min_confidence)])
    ) as listener:
        sending = asyncio.create_task(_send(websocket, listener, state.watch))
        try:
            while True:  # also hears that the other side has gone
                state.feed.wish(listener, _wishes(Filters.model_validate_json(await websocket.receive_text()).any))
        except WebSocketDisconnect:
            pass
        except ValidationError as error:
            await websocket.close(1007, str(error.errors()[0]["msg"])[:100])
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send(websocket: WebSocket, listener: Listener, watch: Watch) -> None:
    async for kind, text in _events(listener, watch):
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await websocket.send_text(f'{{"event":"{kind}","data":{text}}}')


async def _heard(feed: Feed, watch: Watch, wishes: list[Wanted]) -> AsyncIterator[str]:
    with feed.listen(wishes) as listener:
        await feed.awake()
        async for kind, text in _events(listener, watch):
            yield f"event: {kind}\ndata: {text}\n\n"


async def _events(listener: Listener, watch: Watch) -> AsyncIterator[tuple[str, str]]:
    said_at, said = 0.0, ""
    while True:
        status: dict[str, Any] = watch.status()
        judged = json.dumps({name: status[name] for name in ("server", "database", "feed", "trouble")})
        if judged != said or time.monotonic() - said_at >= STATUS_S:
            yield "status", json.dumps(status, separators=(",", ":"))
            said_at, said = time.monotonic(), judged
        if rows := await listener.take(1.0):
            yield "forecasts", f"[{','.join(rows)}]"
            await asyncio.sleep(FLUSH_MS / 1000)


def _wishes(filters: list[Filter]) -> list[Wanted]:
    return [Wanted(frozenset(f.symbol or ()), frozenset(f.direction or ()), f.min_confidence) for f in filters]
