"""A running server as `candlecast schedule` uses it: the steps of `training.schedule.Rollout` over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast.errors import ConfigurationError
from candlecast.settings import Settings

if TYPE_CHECKING:
    from candlecast.training.schedule import Standing

WHO: Final = "schedule"


class ModelServer:
    """Takes steps as the admin; each raises ServerError."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def versions(self) -> list[Standing]:
        """Return every version the server knows."""
        from candlecast.training.schedule import Standing
        from candlecast.v1 import models_pb2 as pb

        models = self._call(self._stub.List, pb.ListModelsRequest()).models
        return [
            Standing(one.version, pb.ModelState.Name(one.state).removeprefix("MODEL_STATE_"), one.since_ms)
            for one in models
        ]

    def push(self, folder: Path, why: str) -> None:
        """Bring the bundle in a folder."""
        from candlecast.cli.models import pieces

        self._call(self._stub.Push, pieces(folder, why))

    def shadow(self, version: int, why: str) -> None:
        """Let it hear every burst, without being heard."""
        self._alias(version, "SHADOW", why)

    def promote(self, version: int, why: str) -> None:
        """Let it answer."""
        self._alias(version, "CHAMPION", why)

    def unload(self, version: int, why: str) -> None:
        """Take it out of traffic."""
        from candlecast.v1 import models_pb2 as pb

        self._call(self._stub.Unload, pb.UnloadModelRequest(version=version, why=why))

    def _alias(self, version: int, state: str, why: str) -> None:
        from candlecast.v1 import models_pb2 as pb

        alias: Any = pb.ModelState.Value(f"MODEL_STATE_{state}")
        self._call(self._stub.SetAlias, pb.SetAliasRequest(version=version, alias=alias, why=why))

    def _call(self, method: Any, request: Any) -> Any:
        import grpc

        from candlecast.calls import ServerError
        from candlecast.cli.models import TIMEOUT_S

        try:
            return method(request, metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise ServerError(error) from error


@contextmanager
def model_server(settings: Settings) -> Iterator[ModelServer]:
    """Connect to the server at the setting grpc.

    Raises:
        ConfigurationError: the admin's token is not known.
    """
    import grpc

    from candlecast.server.admin import FILE, WHO_HEADER, token_of
    from candlecast.v1 import models_pb2_grpc

    token = token_of(settings)
    if token is None:
        raise ConfigurationError(
            f"no admin token: set CANDLECAST_ADMIN_TOKEN, or CANDLECAST_STATE_DIR to the folder that holds {FILE}"
        )
    with grpc.insecure_channel(settings.grpc, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = models_pb2_grpc.ModelsStub(channel)
        yield ModelServer(stub, (("authorization", f"Bearer {token}"), (WHO_HEADER, WHO)))
