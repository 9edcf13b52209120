"""Promote and roll back from the door: it hands the admin's token on to the server, which judges it anew."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import grpc
from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from candlecast.client import ServerError
from candlecast.dashboard.admin import require_admin
from candlecast.dashboard.problems import RESPONSES, Refused, status_of
from candlecast.v1 import models_pb2 as pb
from candlecast.v1.models_pb2_grpc import ModelsStub

router = APIRouter(prefix="/api/ml/models", tags=["models"], responses=RESPONSES)

TIMEOUT_S: Final = 120.0
"""A version is verified, loaded and warmed before it answers."""
Token = Annotated[str, Depends(require_admin)]


class Why(BaseModel):
    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="for the record")


class Alias(Why):
    """What a version becomes."""

    alias: Literal["SHADOW", "CHALLENGER", "CHAMPION"]
    share: float = Field(0.0, ge=0, le=1, description="of the symbols, for a CHALLENGER")


class Served(BaseModel):
    """A version and where it stands now."""

    model: str
    version: int
    state: str
    reason: str


@router.post("/{version}/alias", response_model=Served)
async def set_alias(
    request: Request, version: Annotated[int, Path(ge=1, le=2**31 - 1)], to: Alias, token: Token
) -> Any:
    """Make a version of the served model SHADOW, CHALLENGER or CHAMPION."""
    message = pb.SetAliasRequest(version=version, alias=f"MODEL_STATE_{to.alias}", share=to.share, why=to.why)
    return await _asked(request, "SetAlias", message, token)


@router.post("/rollback", response_model=Served)
async def roll_back(request: Request, to: Why, token: Token) -> Any:
    """Make the former champion answer again."""
    return await _asked(request, "Rollback", pb.RollbackRequest(why=to.why), token)


async def _asked(request: Request, method: str, message: Any, token: str) -> dict[str, Any]:
    call = getattr(ModelsStub(request.app.state.channel), method)
    metadata = (("authorization", f"Bearer {token}"), ("candlecast-who", "dashboard"))
    try:
        model = await call(message, timeout=TIMEOUT_S, metadata=metadata)
    except grpc.RpcError as error:
        failed = ServerError(error)
        raise Refused(status_of(failed.code), failed.server_reason, str(failed)) from error
    state = pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_")
    return {"model": model.name, "version": model.version, "state": state, "reason": model.reason}
