"""How far forecasts are from a reference, whether that is drift, and what of it is told. Knows no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from candlecast.models.reference import Part, Reference
from candlecast.store.drift import BUNDLE, ITSELF, Before, Measure, Sample
from candlecast.tracking.adwin import newest_change
from candlecast.tracking.stability import distance, stability
from candlecast.values import F32, F64, Bool

CLOCK: Final = "time"
"""The group of features that only tell the time: they differ between any two days, and are not compared."""
ROWS_MIN: Final = 200
"""On both sides: fewer differ by chance alone."""
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When drift begins and ends, of what exceeds the usual; between the two it stays as it was."""

    psi: float
    psi_end: float
    ks: float
    ks_end: float
    alerts_per_day_max: int


def against_reference(
    reference: Reference, newest: Sample, groups: Mapping[str, Sequence[int]], names: Sequence[str]
) -> list[Measure]:
    """Compare with what the model was trained on: the groups of features, confidence and probabilities.

    Args:
        groups: columns of each group of features.
        names: of the features.
    """
    compared = {group: columns for group, columns in groups.items() if group != CLOCK}
    found = _against(reference.features, newest.rows, compared, names, newest)
    if reference.predictions is not None:
        said = np.column_stack([newest.confidence, newest.probabilities])
        parts = {"confidence": [0], "probabilities": list(range(1, said.shape[1]))}
        found += _against(reference.predictions, said, parts, None, newest)
    return found


def _against(
    part: Part, rows: F32, groups: Mapping[str, Sequence[int]], names: Sequence[str] | None, newest: Sample
) -> list[Measure]:
    psi, ks = part.spread.apart(rows)
    usual = part.usual_of((newest.span[1] - newest.span[0]).total_seconds() / DAY_S, newest.symbols)
    return [
        Measure(
            group,
            psi=float(psi[columns].mean()),
            ks=float(ks[columns].mean()),
            usual_psi=None if usual is None else float(usual.psi[columns].mean()),
            usual_ks=None if usual is None else float(usual.ks[columns].mean()),
            worst=None if names is None else names[max(columns, key=psi.tolist().__getitem__)],
            against=BUNDLE,
            span=part.span,
            rows=part.spread.rows,
        )
        for group, columns in ((group, list(columns)) for group, columns in groups.items())
    ]


def against_days(
    reference: Sample, newest: Sample, groups: Mapping[str, Sequence[int]], names: Sequence[str]
) -> list[Measure]:
    """Compare with the version's first days: the groups of features, directions and confidence; see the other."""
    apart = _apart(reference, newest, groups, names)
    usual = [_apart(*halves, groups, names) for halves in _stretches(reference, newest)]
    return [
        replace(
            one,
            usual_psi=float(np.mean([stretch[i].psi or 0.0 for stretch in usual])) if usual else None,
            usual_ks=float(np.mean([stretch[i].ks or 0.0 for stretch in usual])) if usual else None,
            span=reference.span,
            rows=len(reference.side),
        )
        for i, one in enumerate(apart)
    ]


def judged(apart: Sequence[Measure], before: Mapping[str, Before], limits: Limits) -> list[Measure]:
    """Say which of them drift.

    Args:
        before: how each subject was measured last; decides between the limits.
    """
    return [replace(one, drifting=_drifts(one, before, limits)) for one in apart]


def of_error(missed: F64, newest: Sample) -> list[Measure]:
    """Say whether shares of misses [N], in the order of time, have risen for good; see `newest_change`."""
    if not len(missed):
        return []
    cut = newest_change(missed)
    earlier, later = float(missed[:cut].mean()) if cut else None, float(missed[cut:].mean())
    rose = earlier is not None and later > earlier
    return [
        Measure("error", before=earlier, after=later, drifting=rose, against=ITSELF, span=newest.span, rows=len(missed))
    ]


def _apart(
    reference: Sample, newest: Sample, groups: Mapping[str, Sequence[int]], names: Sequence[str]
) -> list[Measure]:
    """Measure how far two samples are apart."""
    compared = {group: columns for group, columns in groups.items() if group != CLOCK}
    psi, ks = (stability(reference.rows, newest.rows), distance(reference.rows, newest.rows)) if compared else ([], [])
    found = [
        Measure(
            group,
            psi=float(np.mean([psi[f] for f in columns])),
            ks=float(np.mean([ks[f] for f in columns])),
            worst=names[max(columns, key=psi.__getitem__)],
        )
        for group, columns in compared.items()
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
        probabilities=sample.probabilities[some],
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
