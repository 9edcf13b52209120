"""A training on record in PostgreSQL while it runs, which it never stops or slows. Knows no statement and no row.

    with record.opened(database_url) as log:
        log.started("patchtst", version=1, family="patchtst", config=asdict(config))
        log.progress(phase="fold 1", step=10, steps=200, loss=1.1, validation_loss=1.2)   # cheap: call it at every step
        log.finished(bundle)

An exception that leaves the body, and a body that ends without `finished`, is a training that failed; Ctrl-C one that
was interrupted. Without a URL nothing is kept.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from candlecast import _rust, outputs
from candlecast.errors import CandlecastError
from candlecast.models.bundle import FORECAST, Bundle
from candlecast.store import registry
from candlecast.store.pool import Pool, open_pool
from candlecast.store.registry import Importance, Logged, Performance, Session, Status, Trained
from candlecast.training import record_rows

WRITE_PAUSE_S: Final = 1.0
"""Between two writes of progress."""
HEARTBEAT_S: Final = 15.0
"""Longest time without a write: the view ml_trainings calls a training lost after two minutes."""
RETRY_PAUSE_S: Final = 2.0
DATABASE_TIMEOUT_MS: Final = 5_000
"""Longest wait for a connection, and for a statement."""
FINISH_TIMEOUT_S: Final = 30.0
"""How long the last rows are tried for when the training has ended."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is written when a training has ended, besides its session."""

    logged: Logged
    model: Trained | None = None
    performance: Sequence[Performance] = ()
    importance: Sequence[Importance] = ()


class Log:
    """One training's place in the registry; a thread of its own does the writing. Made by `opened`."""

    def __init__(
        self, url: str | None, *, session_id: UUID | None = None, finish_timeout_s: float = FINISH_TIMEOUT_S
    ) -> None:
        self._url = url
        self._id = session_id or uuid4()
        self._finish_timeout_s = finish_timeout_s
        self._session: Session | None = None
        self._ending: Ending | None = None
        self._ended = threading.Event()
        self._written = threading.Event()
        self._trouble = ""
        self._thread: threading.Thread | None = None

    @property
    def session(self) -> Session | None:
        """The training as it stands now; None before it has started."""
        return self._session

    def started(
        self,
        model: str,
        *,
        version: int,
        family: str,
        config: Mapping[str, Any] | None = None,
        target: str = FORECAST,
        horizon_bars: Sequence[int] = outputs.HORIZON_BARS,
        **known: Any,
    ) -> None:
        """Begin a session; `known` are further fields of `Session`.

        Args:
            horizon_bars: empty when they are not known before the data is.
        """
        self._session = Session(
            id=self._id,
            model=model,
            version=version,
            family=family,
            horizon_bars=tuple(horizon_bars),
            started_at=datetime.now(UTC),
            target=target,
            config=config or {},
            host=platform.node(),
            **known,
        )
        if self._url is not None:
            self._thread = threading.Thread(target=self._run, name="training-record", daemon=True)
            self._thread.start()

    def progress(self, **fields: Any) -> None:
        """Take note of where the training is: phase, step, steps, loss, or any other field of `Session`."""
        if self._session is not None:
            self._session = replace(self._session, **fields)

    def finished(self, bundle: Bundle) -> None:
        """End the session with a bundle."""
        if self._session is None:
            return
        manifest = bundle.manifest
        interrupted = manifest.training.get("shipped", {}).get("interrupted", False)
        target = manifest.training.get("target")
        self._session = replace(
            self._session,
            horizon_bars=[target["bars"]] if target else outputs.HORIZON_BARS,
            symbols=manifest.data["symbols"],
            interval_ms=manifest.data["interval_ms"],
            data_from=manifest.data["from"],
            data_to=manifest.data["to"],
            data_points=manifest.training.get("samples"),
            metrics=manifest.metrics,
            bundle_sha256=bytes.fromhex(bundle.sha256),
            code_commit=manifest.code_commit,
        )
        self._end("interrupted" if interrupted else "finished", bundle=bundle)

    def failed(self, error: BaseException) -> None:
        """End the session without a bundle, unless it has ended."""
        interrupted = isinstance(error, KeyboardInterrupt)
        text = str(error) or ("interrupted before a first checkpoint" if interrupted else type(error).__name__)
        self._end("interrupted" if interrupted else "failed", error=text)

    def close(self) -> None:
        """Wait, at most `finish_timeout_s`, until the last rows are written; say so when they are not."""
        if self._thread is None:
            return
        self._end("failed", error="it ended without a bundle")
        self._thread.join(self._finish_timeout_s + 1)
        if not self._written.is_set():
            log.warning(
                "training not on record: its last rows could not be written within %g s (%s)",
                self._finish_timeout_s,
                self._trouble or "the database does not answer",
            )

    def _end(self, status: Status, *, error: str | None = None, bundle: Bundle | None = None) -> None:
        if self._session is None or self._ended.is_set():
            return
        now = datetime.now(UTC)
        self._session = session = replace(self._session, status=status, finished_at=now, error=error)
        logged = record_rows.logged(session)
        if bundle is None:
            self._ending = Ending(logged)
        else:
            self._ending = Ending(
                logged,
                record_rows.trained(bundle, session),
                record_rows.performance(bundle),
                record_rows.importance(bundle),
            )
        self._ended.set()

    def _run(self) -> None:
        asyncio.run(self._write_all())

    async def _write_all(self) -> None:
        """Write until the training has ended and everything is written, or until the time for that is over."""
        assert self._url is not None
        give_up_at = float("inf")
        while time.monotonic() < give_up_at:
            try:
                async with open_pool(
                    self._url,
                    connections_max=1,
                    command_timeout_ms=DATABASE_TIMEOUT_MS,
                    connect_timeout_ms=DATABASE_TIMEOUT_MS,
                ) as pool:
                    await self._write(pool)
                    return
            except CandlecastError as error:
                if not self._trouble:
                    log.warning("training not on record for now: %s", error)
                self._trouble = str(error)
            if self._ended.is_set():
                give_up_at = min(give_up_at, time.monotonic() + self._finish_timeout_s)
                await asyncio.sleep(RETRY_PAUSE_S)
            elif await asyncio.to_thread(self._ended.wait, RETRY_PAUSE_S):
                give_up_at = time.monotonic() + self._finish_timeout_s

    async def _write(self, pool: Pool) -> None:
        await registry.register_features(pool, _rust.FEATURE_SET, _rust.catalog())
        written, written_at = None, -HEARTBEAT_S
        while not self._ended.is_set():
            session = self._session
            if session is not None and (session is not written or time.monotonic() > written_at + HEARTBEAT_S):
                await registry.save_session(pool, session)
                if self._trouble:
                    log.info("training on record again")
                self._trouble, written, written_at = "", session, time.monotonic()
            await asyncio.to_thread(self._ended.wait, WRITE_PAUSE_S)
        assert self._session is not None and self._ending is not None
        await registry.save_session(pool, self._session)
        await registry.log_training(pool, self._ending.logged)
        if self._ending.model is not None:
            await registry.register_model(pool, self._ending.model)
        await registry.record_performance(pool, self._ending.performance)
        await registry.record_importance(pool, self._ending.importance)
        self._written.set()


@contextmanager
def opened(
    url: str | None, *, session_id: UUID | None = None, finish_timeout_s: float = FINISH_TIMEOUT_S
) -> Iterator[Log]:
    """Keep the training that the body runs on record in the database at `url`, under that id or a new one."""
    entry = Log(url, session_id=session_id, finish_timeout_s=finish_timeout_s)
    try:
        yield entry
    except BaseException as error:
        entry.failed(error)
        raise
    finally:
        entry.close()
