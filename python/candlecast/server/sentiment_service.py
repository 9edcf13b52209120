"""Sentiment over gRPC: convert, ask, convert. Knows no statement."""

from __future__ import annotations

from typing import Any, Final

import grpc

from candlecast.errors import InvalidRequest
from candlecast.features import now_ms
from candlecast.server.history_service import ms_of
from candlecast.server.status import abort
from candlecast.server.wire import parsed
from candlecast.store.pool import Pool
from candlecast.store.sentiment import Score, put_scores, scores_as_of
from candlecast.v1 import sentiment_pb2 as pb
from candlecast.v1 import sentiment_pb2_grpc
from candlecast.values import SYMBOL

Context = grpc.aio.ServicerContext[Any, Any]
SCORES_MAX: Final = 1_000
"""In one request; as many symbols."""
SOURCE_CHARS_MAX: Final = 64
AHEAD_MS: Final = 2_000
"""How far in the future a publication may lie: clocks differ."""


class SentimentService(sentiment_pb2_grpc.SentimentServicer):
    """The methods of Sentiment."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def Put(self, request: pb.PutSentimentRequest, context: Context) -> pb.PutSentimentResponse:
        try:
            scores = given(parsed(request))
            created = await put_scores(self._pool, scores)
            return pb.PutSentimentResponse(created=created, known=len(scores) - created)
        except Exception as error:
            await abort(context, error)

    async def AsOf(self, request: pb.SentimentAsOfRequest, context: Context) -> pb.SentimentAsOfResponse:
        try:
            rows = await scores_as_of(self._pool, *asked(parsed(request)))
            return pb.SentimentAsOfResponse(
                scores=[
                    pb.SentimentScore(
                        symbol=row["symbol"], ts_ms=ms_of(row["ts"]), score=row["score"], source=row["source"]
                    )
                    for row in rows
                ]
            )
        except Exception as error:
            await abort(context, error)


def given(request: pb.PutSentimentRequest) -> list[Score]:
    """Read scores.

    Raises:
        InvalidRequest: says which field of which score; none of them is kept then.
    """
    _count("scores", len(request.scores))
    latest_ms, scores = now_ms() + AHEAD_MS, []
    for i, one in enumerate(request.scores):
        _symbol(f"scores[{i}].symbol", one.symbol)
        if not 0 < one.ts_ms <= latest_ms:
            raise InvalidRequest(f"scores[{i}].ts_ms", f"must be ms since 1970, at most {AHEAD_MS} ms in the future")
        if not -1 <= one.score <= 1:
            raise InvalidRequest(f"scores[{i}].score", "must be -1 to 1")
        if not one.source:
            raise InvalidRequest(f"scores[{i}].source", "must say who gives the score")
        _source(f"scores[{i}].source", one.source)
        scores.append(Score(one.symbol, one.ts_ms, one.score, one.source))
    return scores


def asked(request: pb.SentimentAsOfRequest) -> tuple[list[str], int, str]:
    """Read which symbols, as of when, of which source.

    Raises:
        InvalidRequest: says which field.
    """
    _count("symbols", len(request.symbols))
    for i, symbol in enumerate(request.symbols):
        _symbol(f"symbols[{i}]", symbol)
    now = now_ms()
    # Later than now is not refused for what it asks, but for what it would promise: more may come until then.
    if not 0 <= request.at_ms <= now + AHEAD_MS:
        raise InvalidRequest("at_ms", f"must be ms since 1970, at most {AHEAD_MS} ms in the future; 0: now")
    _source("source", request.source)
    return list(request.symbols), request.at_ms or now, request.source


def _count(field: str, count: int) -> None:
    if not 0 < count <= SCORES_MAX:
        raise InvalidRequest(field, f"must be 1 to {SCORES_MAX}")


def _symbol(field: str, value: str) -> None:
    if not SYMBOL.fullmatch(value):
        raise InvalidRequest(field, "is no symbol: 1 to 32 characters of A-Z 0-9 . _ : / -")


def _source(field: str, value: str) -> None:
    if len(value) > SOURCE_CHARS_MAX or "\0" in value:
        raise InvalidRequest(field, f"must have at most {SOURCE_CHARS_MAX} characters")
