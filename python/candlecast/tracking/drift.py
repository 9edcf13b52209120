"""How far what a version sees, says and misses has moved. Beside serving; knows not who is told.

It is measured against what the model was trained on, as its bundle says (`models/reference.py`), from the first 200
forecasts on; where the bundle says nothing, against the version's own first days, once there are newer ones. What
filters and gate made of it, the directions, is no model's: it is always held to the first days.

Rows are read in bounded batches over a connection of its own and compared in a thread, so the loop goes on. Nothing is
kept in memory that a restart would lose: how a subject was measured last is read from the table.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from candlecast.errors import CandlecastError
from candlecast.models.reference import Reference
from candlecast.store import drift as store
from candlecast.store.drift import BUNDLE, Before, Measure, Sample, Span
from candlecast.store.pool import Pool, open_pool
from candlecast.tracking.measures import ROWS_MIN, Limits, against_days, against_reference, judged, of_error, told
from candlecast.values import Model

FIRST_S: Final = 60.0
"""From the start to the first measurement."""
STOP_TIMEOUT_S: Final = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drifted:
    """Drift that began, or ended, and that somebody shall be told of."""

    model: Model
    measure: Measure

    def __str__(self) -> str:
        m = self.measure
        who = f"{self.model.name} v{self.model.version}"
        if not m.drifting:
            return f"{who}: {m.subject} no longer drifts"
        if m.before is not None and m.after is not None:
            return f"{who}: misses at one bar rose from {m.before:.3f} to {m.after:.3f}"
        worst = f", most of all {m.worst}" if m.worst else ""
        usual = f" (usually {m.usual_psi:.2f})" if m.usual_psi is not None else ""
        since = "what it was trained on" if m.against == BUNDLE else "its first days"
        return f"{who}: {m.subject} drifts from {since}, PSI {m.psi or 0:.2f}{usual}, KS {m.ks or 0:.2f}{worst}"


class DriftWatch:
    """Measures while it is entered.

    Args:
        model: returns the version that answers.
        reference_of: returns what it was trained on, None where its bundle does not say; may block, must not fail.
        names, groups: of the features, in their order.
        reference, newest: spans that are compared.
        rows_max: forecasts of each.
        interval_s: pause between two measurements.
        tell: hears of drift that began or ended; must not fail.
    """

    def __init__(
        self,
        database_url: str,
        model: Callable[[], Model],
        reference_of: Callable[[Model], Reference | None],
        names: Sequence[str],
        groups: Sequence[str],
        limits: Limits,
        *,
        reference: timedelta,
        newest: timedelta,
        rows_max: int,
        interval_s: float,
        tell: Callable[[Drifted], Awaitable[None]],
    ) -> None:
        self._database_url = database_url
        self._model = model
        self._reference_of = reference_of
        self._held_to: tuple[Model, Reference | None] | None = None  # of the version that was looked at last
        self._names = names
        self._groups = {name: [f for f, of in enumerate(groups) if of == name] for name in dict.fromkeys(groups)}
        self._limits = limits
        self._spans = reference, newest
        self._rows_max = rows_max
        self._interval_s = interval_s
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self.newest: Sequence[Measure] = ()
        """What was found last."""
        self.measured_s: float | None = None
        """When, since 1970."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None, "not entered"
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)

    async def look(self, pool: Pool) -> Sequence[Measure]:
        """Measure once; nothing is found while there are too few forecasts, or nothing to hold them to.

        Raises:
            StorageUnavailable: nothing was written, and nobody told.
        """
        model, began = self._model(), time.monotonic()
        name, version = model.name, model.version
        reference = await self._reference(model)
        spans = await store.spans(pool, name, version, *self._spans)
        self.newest = ()
        if spans is None or (spans[0] is None and reference is None):
            log.info("drift not measured because=too_early")
            return self.newest
        newest = await self._sample(pool, model, spans[1])
        days = await self._sample(pool, model, spans[0]) if spans[0] else None
        if days is not None and len(days.side) < ROWS_MIN:
            days = None
        if len(newest.side) < ROWS_MIN or (days is None and reference is None):
            log.info("drift not measured because=too_few forecasts=%d needed=%d", len(newest.side), ROWS_MIN)
            return self.newest
        missed = await store.misses(pool, name, version, (spans[0] or spans[1])[0])
        before = await store.before(pool, name, version)
        found = await asyncio.to_thread(self._measured, reference, days, newest, before)
        found += of_error(missed, newest)
        found = told(found, before, self._limits.alerts_per_day_max - await store.alerts_today(pool))
        await store.keep(pool, name, version, newest, found)
        self.newest, self.measured_s = found, time.time()
        drifting = [one.subject for one in found if one.drifting]
        log.info("drift measured against=%s drifting=%s seconds=%.2f", "first_days" if reference is None else "bundle",
                 ",".join(drifting) or "-", time.monotonic() - began)  # fmt: skip
        for one in found:
            if one.alerted:
                await self._tell(Drifted(model, one))
        return found

    async def _reference(self, model: Model) -> Reference | None:
        if self._held_to is None or self._held_to[0] != model:
            self._held_to = model, await asyncio.to_thread(self._reference_of, model)
            if self._held_to[1] is None:
                log.warning("drift reference=none model=%s version=%d: its bundle does not say what it was trained on, "
                            "so drift is measured against its first days; `candlecast export --reference` tells it",
                            model.name, model.version)  # fmt: skip
        return self._held_to[1]

    async def _sample(self, pool: Pool, model: Model, span: Span) -> Sample:
        return await store.sample(pool, model.name, model.version, span, self._rows_max, len(self._names))

    def _measured(
        self, reference: Reference | None, days: Sample | None, newest: Sample, before: Mapping[str, Before]
    ) -> list[Measure]:
        """Compare with the reference, and with the first days in what the reference does not have."""
        found = [] if reference is None else against_reference(reference, newest, self._groups, self._names)
        if days is not None:
            known = {one.subject for one in found}
            found += [
                one
                for one in against_days(days, newest, {} if known else self._groups, self._names)
                if one.subject not in known
            ]
        return judged(found, before, self._limits)

    def psi(self) -> dict[tuple[str, ...], float]:
        """Return the newest index of each subject that has one."""
        return {(one.subject,): one.psi for one in self.newest if one.psi is not None}

    def ks(self) -> dict[tuple[str, ...], float]:
        """Return the newest distance of each subject that has one."""
        return {(one.subject,): one.ks for one in self.newest if one.ks is not None}

    def has_reference(self) -> float | None:
        """Return 1 if drift is measured against what the model was trained on, 0 if its bundle does not say it."""
        return None if self._held_to is None else float(self._held_to[1] is not None)

    def drifting(self) -> dict[tuple[str, ...], float]:
        """Return 1 for each subject that drifts and 0 for the others."""
        return {(one.subject,): float(one.drifting) for one in self.newest}

    async def _run(self) -> None:
        pause_s = min(FIRST_S, self._interval_s)
        await self._reference(self._model())  # says at once where there is none
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))
            pause_s = self._interval_s
            try:
                timeout_ms = round(1000 * store.TIMEOUT_S)
                async with open_pool(self._database_url, connections_max=1, command_timeout_ms=timeout_ms) as pool:
                    await self.look(pool)
            except CandlecastError as error:
                log.warning("drift not measured because=%s", error)
            except Exception:
                log.exception("a mistake of ours: drift is measured again later")
