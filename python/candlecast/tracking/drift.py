"""How far what a version sees, says and misses has moved from its first days. Beside serving; knows not who is told.

Rows are read in bounded batches over a connection of its own and compared in a thread, so the loop goes on. Nothing is
kept in memory that a restart would lose: how a subject was measured last is read from the table.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import numpy as np

from candlecast.errors import CandlecastError
from candlecast.store import drift as store
from candlecast.store.drift import Before, Measure, Sample
from candlecast.store.pool import Pool, open_pool
from candlecast.tracking.adwin import newest_change
from candlecast.tracking.stability import distance, stability
from candlecast.values import F64, Bool, Model

CLOCK: Final = "time"
"""The group of features that only tell the time: they differ between any two days, and are not compared."""
ROWS_MIN: Final = 200
"""On both sides: fewer differ by chance alone."""
FIRST_S: Final = 60.0
"""From the start to the first measurement."""
STOP_TIMEOUT_S: Final = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """When drift begins and ends, of what exceeds the usual; between the two it stays as it was."""

    psi: float
    psi_end: float
    ks: float
    ks_end: float
    alerts_per_day_max: int


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
        return f"{who}: {m.subject} drifts, PSI {m.psi or 0:.2f}{usual}, KS {m.ks or 0:.2f}{worst}"


def measure(
    reference: Sample,
    newest: Sample,
    missed: F64,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str],
    before: Mapping[str, Before],
    limits: Limits,
) -> list[Measure]:
    """Compare two samples.

    Args:
        missed: shares of misses, in the order of time; see `newest_change`.
        groups: columns of each group of features.
        names: of the features.
        before: how each subject was measured last; decides between the limits.
    """
    apart = _apart(reference, newest, groups, names)
    usual = [_apart(*halves, groups, names) for halves in _stretches(reference, newest)]
    found = [
        replace(
            one,
            usual_psi=float(np.mean([stretch[i].psi or 0.0 for stretch in usual])) if usual else None,
            usual_ks=float(np.mean([stretch[i].ks or 0.0 for stretch in usual])) if usual else None,
        )
        for i, one in enumerate(apart)
    ]
    judged = [replace(one, drifting=_drifts(one, before, limits)) for one in found]
    if len(missed):
        cut = newest_change(missed)
        earlier, later = float(missed[:cut].mean()) if cut else None, float(missed[cut:].mean())
        rose = earlier is not None and later > earlier
        judged.append(Measure("error", before=earlier, after=later, drifting=rose))
    return judged


def _apart(
    reference: Sample, newest: Sample, groups: Mapping[str, Sequence[int]], names: Sequence[str]
) -> list[Measure]:
    """Measure how far two samples are apart."""
    psi, ks = stability(reference.rows, newest.rows), distance(reference.rows, newest.rows)
    found = [
        Measure(
            group,
            psi=float(np.mean([psi[f] for f in columns])),
            ks=float(np.mean([ks[f] for f in columns])),
            worst=names[max(columns, key=psi.__getitem__)],
        )
        for group, columns in groups.items()
        if group != CLOCK
    ]
    sides = reference.side[:, None].astype(np.float32), newest.side[:, None].astype(np.float32)
    shares = [np.bincount(sample.side, minlength=3) + 0.5 for sample in (newest, reference)]
    p, q = (counts / counts.sum() for counts in shares)
    found.append(Measure("direction", psi=float(np.sum((p - q) * np.log(p / q))), ks=distance(*sides)[0]))
    both = reference.confidence[:, None], newest.confidence[:, None]
    found.append(Measure("confidence", psi=stability(*both)[0], ks=distance(*both)[0]))
    return found


def _stretches(reference: Sample, newest: Sample) -> list[tuple[Sample, Sample]]:
    """Cut the reference into stretches as long as the newest days; return the others of it, and each of them.

    Slow features hardly move within a day or two: days that follow each other are far apart without any drift. How far
    is measured on the reference itself.
    """
    begin = reference.span[0].timestamp()
    length = (newest.span[1] - newest.span[0]).total_seconds()
    count = int((reference.span[1] - reference.span[0]).total_seconds() // length) if length else 0
    place = np.minimum((reference.close_s - begin) // max(length, 1.0), count - 1)
    inside = [place == i for i in range(count)] if count > 1 else []
    return [(_part(reference, ~some), _part(reference, some)) for some in inside if some.sum() >= ROWS_MIN // 4]


def _part(sample: Sample, some: Bool) -> Sample:
    return replace(
        sample,
        rows=sample.rows[some],
        side=sample.side[some],
        confidence=sample.confidence[some],
        close_s=sample.close_s[some],
    )


def _drifts(one: Measure, before: Mapping[str, Before], limits: Limits) -> bool:
    psi, ks = (one.psi or 0.0) - (one.usual_psi or 0.0), (one.ks or 0.0) - (one.usual_ks or 0.0)
    if psi >= limits.psi or ks >= limits.ks:
        return True
    ended = psi < limits.psi_end and ks < limits.ks_end
    return not ended and one.subject in before and before[one.subject].drifting


def told(found: Sequence[Measure], before: Mapping[str, Before], alerts_left: int) -> list[Measure]:
    """Mark those that somebody shall be told of: what ended, and what began as far as the day's budget goes.

    The worst go first. What the budget kept back is told on another day, if it drifts still.
    """
    news = {one.subject for one in found if not one.drifting and one.subject in before and before[one.subject].told}
    begun = [one for one in found if one.drifting and not (one.subject in before and before[one.subject].told)]
    begun.sort(key=lambda one: (one.subject != "error", -(one.psi or 0.0)))
    news |= {one.subject for one in begun[: max(alerts_left, 0)]}
    return [replace(one, alerted=one.subject in news) for one in found]


class DriftWatch:
    """Measures while it is entered.

    Args:
        model: returns the version that answers.
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
        """Measure once; nothing is found while there are too few forecasts, or too few days of them.

        Raises:
            StorageUnavailable: nothing was written, and nobody told.
        """
        model, begin = self._model(), time.monotonic()
        self.newest = ()
        spans = await store.spans(pool, model.name, model.version, *self._spans)
        if spans is None:
            return self.newest
        reference, newest = [
            await store.sample(pool, model.name, model.version, span, self._rows_max, len(self._names))
            for span in spans
        ]
        if (least := min(len(reference.side), len(newest.side))) < ROWS_MIN:
            log.info("drift not measured because=too_few forecasts=%d needed=%d", least, ROWS_MIN)
            return self.newest
        missed = await store.misses(pool, model.name, model.version, spans[0][0])
        before = await store.before(pool, model.name, model.version)
        found = await asyncio.to_thread(
            measure, reference, newest, missed, self._groups, self._names, before, self._limits
        )
        found = told(found, before, self._limits.alerts_per_day_max - await store.alerts_today(pool))
        await store.keep(pool, model.name, model.version, reference, newest, found)
        self.newest = found
        drifting = [one.subject for one in found if one.drifting]
        log.info("drift measured drifting=%s seconds=%.2f", ",".join(drifting) or "-", time.monotonic() - begin)
        for one in found:
            if one.alerted:
                await self._tell(Drifted(model, one))
        return found

    def psi(self) -> dict[tuple[str, ...], float]:
        """Return the newest index of each subject that has one."""
        return {(one.subject,): one.psi for one in self.newest if one.psi is not None}

    def drifting(self) -> dict[tuple[str, ...], float]:
        """Return 1 for each subject that drifts and 0 for the others."""
        return {(one.subject,): float(one.drifting) for one in self.newest}

    async def _run(self) -> None:
        pause_s = min(FIRST_S, self._interval_s)
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
