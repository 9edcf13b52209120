"""`candlecast models`: versions of the served model pushed, promoted and rolled back while traffic flows."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from candlecast import settings as configuration
from candlecast.cli import models_compare
from candlecast.errors import ConfigurationError, InvalidRequest
from candlecast.lifecycle import say
from candlecast.settings import Settings

if TYPE_CHECKING:
    from candlecast.models_client import ModelsClient
    from candlecast.v1 import models_pb2 as pb

EPILOG: Final = """\
A version's way: PUSHED, VERIFIED, LOADED, WARM, then as you say SHADOW, CHALLENGER, CHAMPION, and RETIRED at its end.

  candlecast models push runs/patchtst-7       its files are copied and verified; what answers does not notice
  candlecast models push s3://models/patchtst/7   the same, brought here first from an object store (extra `remote`)
  candlecast models shadow 7                   it hears every burst, nobody hears it; its forecasts are stored
  candlecast models split 7 0.1                it answers a tenth of the symbols, the same ones all day
  candlecast models compare 6 7 --days 14      which is better, on the candles of which both spoke
  candlecast models promote 7                  it answers; the champion of before stays loaded for a rollback
  candlecast models rollback                   the champion of before answers again

The admin's token is the setting admin_token, or the file admin_token that `candlecast up` keeps in the state directory.
"""


def register(commands: Any) -> None:
    command = commands.add_parser(
        "models",
        help="push, promote, shadow, split and roll back versions of the model",
        description="Change which version of the model answers, while it answers. A running server takes each step and"
        " puts it on record (who, when, why) in ml_model_events.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = command.add_subparsers(dest="step", required=True, metavar="STEP")
    version = (("version", {"type": int, "metavar": "VERSION", "help": "number of the version"}),)
    bundle = (
        (
            "bundle",
            {
                "metavar": "BUNDLE",
                "help": "folder of a bundle or an ensemble, or its URL: s3://, gs://, az://, https://",
            },
        ),
    )
    share = (("share", {"type": float, "metavar": "SHARE", "help": "of the symbols, above 0, at most 1"}),)
    for name, text, arguments in (
        ("list", "every version and where it stands", ()),
        ("show", "one version, its figures and what happened with it", version),
        ("events", "what happened, newest first", ()),
        ("push", "copy a bundle to the server and verify it", bundle),
        ("load", "load a version beside the others and warm it", version),
        ("shadow", "let a version hear every burst without being heard", version),
        ("split", "let a version answer a share of the symbols", (*version, *share)),
        ("promote", "let a version answer", version),
        ("rollback", "let the former champion answer again", ()),
        ("unload", "take a version out of traffic and out of Triton", version),
    ):
        step = steps.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for argument, options in arguments:
            step.add_argument(argument, **options)
        if name not in ("list", "show", "events"):
            step.add_argument("--why", default="", metavar="WORDS", help="for the record")
        step.add_argument("--server", metavar="HOST:PORT", help="gRPC of the server (default: the setting grpc)")
        step.add_argument("--state-dir", type=Path, metavar="DIR", help="where `candlecast up` keeps the admin's token")
        step.add_argument("--json", action="store_true", help="print JSON")
    models_compare.add(steps)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from candlecast.models_client import ModelsClient
    from candlecast.server.admin import FILE, token_of

    settings = configuration.load(grpc=args.server, state_dir=args.state_dir)
    token = token_of(settings)
    if token is None:
        raise ConfigurationError(
            f"no admin token: set CANDLECAST_ADMIN_TOKEN, or name the state directory that holds {FILE} by --state-dir"
        )
    with ModelsClient(settings.grpc, token=token, who=_who()) as client, ExitStack() as stack:
        if args.step == "push":
            args.bundle = _here(args.bundle, settings, stack)
        return _take(args, client)


def _here(bundle: str, settings: Settings, stack: ExitStack) -> Path:
    """Return the folder of a bundle, brought here first if it lies in an object store; then it goes with the stack."""
    from candlecast.models.remote import Remote, is_remote

    if not is_remote(bundle):
        return Path(bundle)
    remote = Remote(
        bundle,
        bytes_max=settings.model_bytes_max,
        timeout_s=settings.model_sync_timeout_ms / 1000,
        say=lambda line: say(line, sys.stderr),
    )
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="candlecast-push-")))
    return asyncio.run(remote.bring(folder / "bundle"))


def _take(args: argparse.Namespace, client: ModelsClient) -> int:
    from candlecast.v1 import models_pb2 as pb

    match args.step:
        case "list":
            _print(client.list(), args.json)
        case "show":
            one = [model for model in client.list() if model.version == args.version]
            if not one:
                raise InvalidRequest("VERSION", f"the server knows no version {args.version}")
            events = client.list_events(args.version)
            if args.json:
                print(json.dumps(_model(one[0]) | {"events": [_event(event) for event in events]}))
            else:
                _print(one, as_json=False)
                print("\n".join(f"{name:12} {value}" for name, value in _figures(one[0])), end="\n\n")
                _print_events(events)
        case "events":
            events = client.list_events()
            if args.json:
                print(json.dumps([_event(event) for event in events]))
            else:
                _print_events(events)
        case "push":
            _print([client.push(args.bundle, args.why)], args.json)
        case "load":
            _print([client.load(args.version, args.why)], args.json)
        case "shadow":
            _print([client.set_alias(args.version, pb.MODEL_STATE_SHADOW, args.why)], args.json)
        case "split":
            _print([client.set_alias(args.version, pb.MODEL_STATE_CHALLENGER, args.why, args.share)], args.json)
        case "promote":
            _print([client.set_alias(args.version, pb.MODEL_STATE_CHAMPION, args.why)], args.json)
        case "rollback":
            _print([client.rollback(args.why)], args.json)
        case "unload":
            _print([client.unload(args.version, args.why)], args.json)
    return 0


def _print(models: Sequence[pb.Model], as_json: bool) -> None:
    if as_json:
        print(json.dumps([_model(one) for one in models]))
        return
    from candlecast.v1 import models_pb2 as pb

    print(
        f"{'model':12} {'version':>7}  {'state':10} {'loaded':6} {'share':>6}  {'since (UTC)':19}  {'sha256':12}  "
        "why not"
    )
    for one in models:
        state = pb.ModelState.Name(one.state).removeprefix("MODEL_STATE_")
        share = f"{one.share:.1%}" if one.share else ""
        loaded = "yes" if one.loaded else "no"
        print(
            f"{one.name:12} {one.version:7}  {state:10} {loaded:6} {share:>6}  {_time(one.since_ms)}"
            f"  {one.bundle_sha256[:12]}  {one.reason or _degraded(one)}"
        )


def _degraded(one: pb.Model) -> str:
    return f"degraded, without {'; '.join(one.absent)}" if one.absent else ""


def _print_events(events: Sequence[pb.ModelEvent]) -> None:
    for one in events:
        found = _event(one)
        before = found["from_state"] or "-"
        print(f"{_time(one.at_ms)}  v{one.version:<4} {before:>10} → {found['to_state']:10}  {one.who}: {one.why}")


def _model(one: pb.Model) -> dict[str, Any]:
    from candlecast.v1 import models_pb2 as pb

    found: dict[str, Any] = {
        "name": one.name,
        "version": one.version,
        "bundle_sha256": one.bundle_sha256,
        "state": pb.ModelState.Name(one.state).removeprefix("MODEL_STATE_"),
        "since_ms": one.since_ms,
        "loaded": one.loaded,
        "share": one.share,
        "reason": one.reason,
        "absent": list(one.absent),
        "metrics": json.loads(one.metrics_json or "{}"),
    }
    return found | {"traffic": dict(_figures(one)) if one.HasField("traffic") else None}


def _figures(one: pb.Model) -> Iterator[tuple[str, float | None]]:
    """Yield what a version did of late."""
    for name in ("rows", "not_finite", "failures", "window_ms", "confidence", "not_heard"):
        value = getattr(one.traffic, name)
        yield name, value if value == value else None


def _event(one: pb.ModelEvent) -> dict[str, Any]:
    from candlecast.v1 import models_pb2 as pb

    before, after = (pb.ModelState.Name(state).removeprefix("MODEL_STATE_") for state in (one.from_state, one.to_state))
    return {
        "id": one.id,
        "at_ms": one.at_ms,
        "model": one.model,
        "version": one.version,
        "bundle_sha256": one.bundle_sha256,
        "from_state": None if before == "UNSPECIFIED" else before,
        "to_state": after,
        "who": one.who,
        "why": one.why,
        "metrics": json.loads(one.metrics_json or "{}"),
    }


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "?"
    return f"{user}@{socket.gethostname()}".encode("ascii", "replace").decode()
