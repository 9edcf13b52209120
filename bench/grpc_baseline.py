"""A gRPC service that does nothing: it parses what our server parses and answers what our server answered once.

Usage: python bench/grpc_baseline.py PORT RESPONSE, the latter a file with an answer of `Forecasts.Predict`.
What it cannot do in a second, no server of this kind can, whatever its model costs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

import grpc
import uvloop

from candlecast.v1 import forecasts_pb2 as pb
from candlecast.v1 import forecasts_pb2_grpc


class Empty(forecasts_pb2_grpc.ForecastsServicer):
    def __init__(self, response: bytes) -> None:
        self.response = pb.PredictResponse.FromString(response)

    async def Predict(self, request: pb.PredictRequest, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        assert request.candles or request.packed
        return self.response


async def serve(port: int, response: bytes) -> None:
    server = grpc.aio.server()
    forecasts_pb2_grpc.add_ForecastsServicer_to_server(Empty(response), server)  # type: ignore[abstract]
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
