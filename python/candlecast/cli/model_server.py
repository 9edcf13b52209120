"""A running server as `candlecast schedule` uses it: the steps of `training.schedule.Rollout` over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from candlecast.errors import ConfigurationError
from candlecast.settings import Settings

if TYPE_CHECKING:
    from candlecast.models_client import ModelsClient
    from candlecast.training.schedule import Standing

WHO: Final = "candlecast schedule"


class ModelServer:
    """Takes steps as the admin; each raises ServerError."""

    def __init__(self, client: ModelsClient) -> None:
        self._client = client

    def versions(self) -> list[Standing]:
        """Return every version the server knows."""
        from candlecast.training.schedule import Standing
        from candlecast.v1 import models_pb2 as pb

        return [
            Standing(one.version, pb.ModelState.Name(one.state).removeprefix("MODEL_STATE_"), one.since_ms)
            for one in self._client.list()
        ]

    def push(self, folder: Path, why: str) -> None:
        """Bring the bundle in a folder."""
        self._client.push(folder, why)

    def shadow(self, version: int, why: str) -> None:
        """Let it hear every burst, without being heard."""
        from candlecast.v1 import models_pb2 as pb

        self._client.set_alias(version, pb.MODEL_STATE_SHADOW, why)

    def promote(self, version: int, why: str) -> None:
        """Let it answer."""
        from candlecast.v1 import models_pb2 as pb

        self._client.set_alias(version, pb.MODEL_STATE_CHAMPION, why)

    def unload(self, version: int, why: str) -> None:
        """Take it out of traffic."""
        self._client.unload(version, why)


@contextmanager
def model_server(settings: Settings) -> Iterator[ModelServer]:
    """Connect to the server at the setting grpc.

    Raises:
        ConfigurationError: the admin's token is not known.
    """
    from candlecast.models_client import ModelsClient
    from candlecast.server.admin import FILE, token_of

    token = token_of(settings)
    if token is None:
        raise ConfigurationError(
            f"no admin token: set CANDLECAST_ADMIN_TOKEN, or CANDLECAST_STATE_DIR to the folder that holds {FILE}"
        )
    with ModelsClient(settings.grpc, token=token, who=WHO) as client:
        yield ModelServer(client)
