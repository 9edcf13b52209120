"""The client's calls about sentiment. Knows only the wire; `client.py` has these methods beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from candlecast.v1 import sentiment_pb2 as pb
from candlecast.v1.sentiment_pb2 import SentimentScore
from candlecast.v1.sentiment_pb2_grpc import SentimentStub

SCORES_MAX: Final = 1_000
"""Of one message; more scores go in several."""


class SentimentCalls:
    """Methods of the blocking client."""

    ask: Any

    def put_sentiment(self, scores: Sequence[SentimentScore]) -> pb.PutSentimentResponse:
        """Keep scores -1..1 by symbol, time of publication and source; what is known by these changes nothing.

        Returns:
            How many are new, and how many were known. When it fails, those of earlier messages are kept: send again.
        """
        told = pb.PutSentimentResponse()
        for part in _parts(scores):
            response = self.ask("Put", pb.PutSentimentRequest(scores=part), pb.PutSentimentResponse, SentimentStub)
            told.created, told.known = told.created + response.created, told.known + response.known
        return told

    def sentiment_as_of(self, symbols: Sequence[str], at_ms: int = 0, *, source: str = "") -> dict[str, SentimentScore]:
        """Return the newest score of each symbol that was published at or before a time (0: now), never a later one.

        Args:
            symbols: at most 1,000; one that nobody spoke of is not in the answer.
            source: of this one only; "": of any.
        """
        request = pb.SentimentAsOfRequest(symbols=symbols, at_ms=at_ms, source=source)
        response = self.ask("AsOf", request, pb.SentimentAsOfResponse, SentimentStub)
        return {score.symbol: score for score in response.scores}


class AsyncSentimentCalls:
    """The same for asyncio."""

    ask: Any

    async def put_sentiment(self, scores: Sequence[SentimentScore]) -> pb.PutSentimentResponse:
        """As Client.put_sentiment."""
        told = pb.PutSentimentResponse()
        for part in _parts(scores):
            request = pb.PutSentimentRequest(scores=part)
            response = await self.ask("Put", request, pb.PutSentimentResponse, SentimentStub)
            told.created, told.known = told.created + response.created, told.known + response.known
        return told

    async def sentiment_as_of(
        self, symbols: Sequence[str], at_ms: int = 0, *, source: str = ""
    ) -> dict[str, SentimentScore]:
        """As Client.sentiment_as_of."""
        request = pb.SentimentAsOfRequest(symbols=symbols, at_ms=at_ms, source=source)
        response = await self.ask("AsOf", request, pb.SentimentAsOfResponse, SentimentStub)
        return {score.symbol: score for score in response.scores}


def _parts(scores: Sequence[SentimentScore]) -> list[Sequence[SentimentScore]]:
    """Return the scores in messages; nothing is one, too, which the server then says is nothing."""
    return [scores[start : start + SCORES_MAX] for start in range(0, max(len(scores), 1), SCORES_MAX)]
