"""What `candlecast doctor` asks the running parts: PostgreSQL, the journal, the model and Triton. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from candlecast.cli.doctor_checks import Finding, fail, ok, refused, up_runs, warn
from candlecast.errors import CandlecastError, ConfigurationError
from candlecast.models.age import complaint, described
from candlecast.models.bundle import Bundle
from candlecast.models.ensemble import Ensemble, members_of
from candlecast.server import champion
from candlecast.server.serving import answering
from candlecast.settings import Settings
from candlecast.store.migrate import SERVER_VERSION_MIN, check_schema
from candlecast.store.pool import Pool, open_pool, place_of

DATABASE_TIMEOUT_MS = 3_000
CANARY_TIMEOUT_MS = 2_000
CLOCK_SKEW_MAX_S = 2.0
JOURNAL_AGE_WARN_S = 60.0
JOURNAL_LOOK_S = 1.0
"""Between two looks at a journal that seems to stand still."""


async def database(settings: Settings) -> list[Finding]:
    """Ask PostgreSQL for its version, its clock and its schema, and look at the journal that waits for it."""
    told = settings.state_dir / "database_url"
    embedded = settings.database_url is None
    url = _text(told) if embedded else settings.database_url
    unknown = [warn(name, "not known", "see `database`") for name in ("clock", "schema")]
    if not url:
        advice = "set DATABASE_URL, or let `candlecast up` start a database"
        return [warn("database", "none is known", advice), *unknown, await _journal(settings, reachable=False)]
    if embedded and not await asyncio.to_thread(up_runs, settings.state_dir):
        found = f"stopped, as `candlecast up` is ({place_of(url)})"
        return [
            warn("database", found, "start it by `candlecast up`"),
            *unknown,
            await _journal(settings, reachable=False),
        ]
    timeout_ms = min(settings.database_timeout_ms, DATABASE_TIMEOUT_MS)
    try:
        async with open_pool(
            url, connections_max=1, command_timeout_ms=timeout_ms, connect_timeout_ms=timeout_ms
        ) as pool:
            findings = [*await _answers(pool, place_of(url)), await _schema(pool)]
    except CandlecastError as error:
        return [refused("database", error), *unknown, await _journal(settings, reachable=False)]
    return [*findings, await _journal(settings, reachable=True)]


async def _answers(pool: Pool, place: str) -> list[Finding]:
    started, asked_s = time.monotonic(), time.time()
    statement = "SELECT current_setting('server_version_num')::int / 10000 AS major, current_setting('server_version')"
    ((major, version, clock_s),) = await pool.fetch(f"{statement}, extract(epoch FROM clock_timestamp())::float8")
    took_s = time.monotonic() - started
    found = f"PostgreSQL {version} at {place}, {took_s * 1000:.0f} ms"
    if major < SERVER_VERSION_MIN:
        server = fail("database", found, f"PostgreSQL {SERVER_VERSION_MIN} or newer is needed")
    else:
        server = ok("database", found)
    return [server, clock(clock_s - (asked_s + took_s / 2))]


def clock(skew_s: float) -> Finding:
    """Judge by how much PostgreSQL's clock is ahead of ours."""
    found = f"PostgreSQL's is {abs(skew_s):.2f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    if abs(skew_s) > CLOCK_SKEW_MAX_S:
        return fail("clock", found, "let both follow NTP: candles are refused that come from the future")
    return ok("clock", found)


async def _schema(pool: Pool) -> Finding:
    try:
        await check_schema(pool)
    except ConfigurationError as error:
        return refused("schema", error)
    return ok("schema", "as this candlecast wants it")


@dataclass(frozen=True, slots=True)
class Journal:
    segments: int
    size_bytes: int
    waiting_bytes: int  # not yet in PostgreSQL
    mark: int
    stands_s: float  # since something was taken last


def look(directory: Path) -> Journal:
    """Look at the segments of a journal and the mark of what was taken, beside whoever writes them."""
    sizes: dict[int, int] = {}
    for entry in os.scandir(directory):
        name, _, ending = entry.name.partition(".")
        if ending == "journal" and name.isdigit():
            sizes[int(name)] = entry.stat().st_size
    mark, begun_s = 0, min((file.stat().st_mtime for file in directory.glob("*.journal")), default=time.time())
    try:
        (mark,) = struct.unpack("<Q", (directory / "mark").read_bytes()[-8:])
        begun_s = (directory / "mark").stat().st_mtime
    except (OSError, struct.error):
        pass  # nothing was taken yet
    waiting = sum(max(0, start + size - max(start, mark)) for start, size in sizes.items())
    return Journal(len(sizes), sum(sizes.values()), waiting, mark, max(0.0, time.time() - begun_s))


async def _journal(settings: Settings, *, reachable: bool) -> Finding:
    directory = settings.state_dir / "journal"
    if not directory.is_dir():
        return ok("journal", "nothing waits for PostgreSQL")
    journal = await asyncio.to_thread(look, directory)
    if journal.waiting_bytes and reachable:  # on its way, perhaps
        before = journal.mark
        await asyncio.sleep(JOURNAL_LOOK_S)
        journal = await asyncio.to_thread(look, directory)
        if journal.mark != before:
            return ok("journal", f"{_said(journal)} and are being taken")
    if not journal.waiting_bytes:
        return ok("journal", _said(journal))
    found = f"{_said(journal)}, since {journal.stands_s:,.0f} s"
    if not reachable:
        return warn("journal", found, "nothing is lost: they are taken once PostgreSQL is back")
    if journal.stands_s > JOURNAL_AGE_WARN_S:
        return warn("journal", found, "PostgreSQL answers, yet takes nothing: see `drain` in the server's log")
    return ok("journal", found)


def _said(journal: Journal) -> str:
    count = f"{journal.segments} segment{'s' * (journal.segments != 1)}, {journal.size_bytes / 1024**2:,.1f} MiB"
    return f"{count}; {journal.waiting_bytes:,} bytes wait for PostgreSQL"


async def model(settings: Settings) -> list[Finding]:
    """Load the bundle that answers, compare it with the core, and ask Triton for its golden outputs."""
    try:
        served = await asyncio.to_thread(champion.served, settings)
        bundle = members_of(served)[0]  # an ensemble's have the same features
        bundle.check_feature_set()
        bundle.check_reference(settings.reference_symbol)
    except ConfigurationError as error:
        return [refused("model", error), warn("canary", "not known", "see `model`")]
    manifest, feature_set = served.manifest, bundle.manifest.feature_set
    features = f"feature set {feature_set.name} 0x{feature_set.hash}"
    found = f"{manifest.name} v{manifest.version}, bundle {served.sha256[:12]}, {features} as computed here"
    if old := complaint(described(served), settings.max_model_age_d, time.time() * 1000):
        aged = warn("model", f"{found}; {old.partition(':')[0]}", old.partition(": ")[2])
        return [aged, await _canary(settings, served)]
    return [ok("model", found), await _canary(settings, served)]


async def _canary(settings: Settings, served: Bundle | Ensemble) -> Finding:
    told = _text(settings.state_dir / "triton_address")
    is_given = "triton" in settings.model_fields_set
    address = settings.triton if is_given or not told else told
    started = time.monotonic()
    async with answering(served, address, timeout_ms=CANARY_TIMEOUT_MS) as model:
        try:
            await model.check()
        except CandlecastError as error:
            if not is_given and not await asyncio.to_thread(up_runs, settings.state_dir):
                return warn(
                    "canary", f"no Triton answers at {address}", "start one by `candlecast up`, or say --triton"
                )
            log_path = settings.state_dir / "triton" / "triton.log"
            advice = f"`candlecast up` restarts it; if this stays, see {log_path}" if told else "look at that Triton"
            return fail("canary", str(error), advice)
        if model.absent:
            away = "; ".join(f"{name}: {error}" for name, error in model.absent.items())
            return warn("canary", f"forecasts are degraded: {away}", "load it into Triton again, or see its log")
    return ok("canary", f"Triton at {address} gives the golden outputs, {(time.monotonic() - started) * 1000:.0f} ms")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
