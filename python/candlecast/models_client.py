"""The client of `Models`: which version of the model answers. Needs grpcio alone; see `client` for forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import grpc

from candlecast.calls import ServerError
from candlecast.errors import InvalidRequest
from candlecast.v1 import models_pb2 as pb
from candlecast.v1.models_pb2_grpc import ModelsStub

CHUNK_BYTES: Final = 1024 * 1024
FILES: Final = ("manifest.json", "model.onnx", "golden_inputs.npy", "golden_outputs.npy", "model.pt2", "reference.json")
"""Of a bundle; the last two may be absent."""


class ModelsClient:
    """The blocking client; a context manager.

    Args:
        server: HOST:PORT.
        token: the admin's.
        who: is on record beside it.
        timeout_s: longest step; the server has limits of its own for a trial and a load.

    Raises (every method):
        ServerError: the call failed; `server_reason` is WRONG_STATE, MODEL_REFUSED, UNAUTHENTICATED, …
    """

    def __init__(self, server: str, *, token: str, who: str = "", timeout_s: float = 600.0) -> None:
        here = server.startswith(("127.", "localhost:", "[::1]:"))
        self._channel = grpc.insecure_channel(server, options=[("grpc.enable_http_proxy", 0)] if here else None)
        self._stub: Any = ModelsStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"), ("candlecast-who", who))
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def list(self) -> Sequence[pb.Model]:
        """Return every version and where it stands."""
        found: pb.ListModelsResponse = self._call(self._stub.List, pb.ListModelsRequest())
        return found.models

    def push(self, bundle: Path, why: str = "") -> pb.Model:
        """Send the files of a bundle, or of an ensemble and its members; the version is verified."""
        model: pb.Model = self._call(self._stub.Push, pieces(bundle, why))
        return model

    def load(self, version: int, why: str = "") -> pb.Model:
        """Load a version beside the others and warm it."""
        model: pb.Model = self._call(self._stub.Load, pb.LoadModelRequest(version=version, why=why))
        return model

    def set_alias(self, version: int, alias: pb.ModelState, why: str = "", share: float = 0.0) -> pb.Model:
        """Make a version SHADOW, CHALLENGER of a share of the symbols, or CHAMPION."""
        request = pb.SetAliasRequest(version=version, alias=alias, share=share, why=why)
        model: pb.Model = self._call(self._stub.SetAlias, request)
        return model

    def rollback(self, why: str = "") -> pb.Model:
        """Make the former champion answer again; return it."""
        model: pb.Model = self._call(self._stub.Rollback, pb.RollbackRequest(why=why))
        return model

    def unload(self, version: int, why: str = "") -> pb.Model:
        """Take a version out of traffic and out of Triton."""
        model: pb.Model = self._call(self._stub.Unload, pb.UnloadModelRequest(version=version, why=why))
        return model

    def list_events(self, version: int = 0, limit: int = 100) -> Sequence[pb.ModelEvent]:
        """Return what happened, newest first; version 0: with all."""
        request = pb.ListModelEventsRequest(version=version, limit=limit)
        found: pb.ListModelEventsResponse = self._call(self._stub.ListEvents, request)
        return found.events

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, metadata=self._metadata, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise ServerError(error) from error


def pieces(bundle: Path, why: str) -> Iterator[pb.PushModelRequest]:
    """Return the files of a bundle, piece by piece; those of an ensemble's members under MEMBER/VERSION/.

    Raises:
        InvalidRequest: the folder holds none of them, or a member is not there.
    """
    files = {name: bundle / name for name in FILES if (bundle / name).is_file()}
    if not files:
        raise InvalidRequest("bundle", f"{bundle} holds none of {', '.join(FILES)}")
    for member in _members(bundle):
        # In the ensemble's folder, or in the same repository.
        place = next((one / member for one in (bundle, bundle.absolute().parents[1]) if (one / member).is_dir()), None)
        if place is None:
            raise InvalidRequest("bundle", f"{bundle} is an ensemble, and its member {member} is not in its repository")
        files |= {f"{member}/{name}": place / name for name in FILES if (place / name).is_file()}
    return _pieces(files, why)


def _members(bundle: Path) -> Iterator[str]:
    """Yield MEMBER/VERSION of each that an ensemble asks; whether its manifest is sound is for the server to say."""
    try:
        document = json.loads((bundle / "manifest.json").read_bytes())
        found = [(str(one["name"]), int(one["version"]), float(one["weight"])) for one in document.get("members", ())]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    for name, version, weight in found:
        if weight > 0 and name == Path(name).name:
            yield f"{name}/{version}"


def _pieces(files: Mapping[str, Path], why: str) -> Iterator[pb.PushModelRequest]:
    for name, place in files.items():
        with place.open("rb") as file:
            yield pb.PushModelRequest(file=name, data=file.read(CHUNK_BYTES), why=why)
            while data := file.read(CHUNK_BYTES):
                yield pb.PushModelRequest(data=data)
