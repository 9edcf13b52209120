"""Who answers which bars: a bundle's model, the fits of its walk-forward, an ensemble's members. Knows no candles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from candlecast import outputs
from candlecast.models.bundle import MODEL, Bundle
from candlecast.training.runtime import opened
from candlecast.training.sources import ms_of
from candlecast.training.splits import Span
from candlecast.training.subject import Subject
from candlecast.values import F32, F64, I64


@dataclass(frozen=True, slots=True)
class Speaker:
    """One model: how it answers, and how its answers are read."""

    ask: Callable[[F32, I64], F32]
    """Answers windows [B, 96, F] of bars that open at these times [B] with outputs [B, 20]; from several threads."""
    temperatures: F64  # [4]


@dataclass(frozen=True, slots=True)
class Fold:
    """A fit of a bundle's walk-forward, and the bars that it speaks for: they came after all that it was fitted on."""

    number: int
    model: Path
    temperatures: F64  # [4]
    span: Span


def walked(bundle: Bundle) -> list[Fold]:
    """Return the folds whose fits the bundle holds; each speaks from its test part on, until the next one's begins."""
    folds = bundle.manifest.metrics.get("walk_forward", {}).get("folds", [])
    found = [
        Fold(number, model, np.array(fold["temperatures"]), _span(fold["spans"]["test"]))
        for number, fold in enumerate(folds, 1)
        if (model := bundle.fold(number)) is not None
    ]
    nexts = [one.span.start_ms for one in found[1:]]
    return [
        replace(one, span=Span(one.span.start_ms, end_ms or one.span.end_ms))
        for one, end_ms in zip_longest(found, nexts)
    ]


def onnx(bundle: Bundle) -> Speaker:
    """Return the bundle's model on the CPU, and those of its folds where they speak; a call runs in the thread that
    makes it.

    Raises:
        BundleError: a file is damaged, or none that ONNX Runtime can run.
    """
    # A second thread of its own spins: two callers are nearly twice as fast.
    whole, temperatures = opened(bundle.path / MODEL, threads=1), np.array(bundle.manifest.temperatures)
    bundle.check_folds()
    folds = walked(bundle)
    asks = [opened(fold.model, threads=1) for fold in folds]
    # Whoever speaks, the logits are read at the temperatures of the whole.
    scales = [np.repeat(temperatures / fold.temperatures, len(outputs.CLASSES)).astype(np.float32) for fold in folds]

    def ask(windows: F32, open_time_ms: I64) -> F32:
        by = np.full(len(windows), len(folds))
        for k, fold in enumerate(folds):
            by[fold.span.of(open_time_ms)] = k
        if (by == len(folds)).all():
            return whole(windows)
        answers = np.empty((len(windows), outputs.COUNT), dtype=np.float32)
        for k in np.unique(by).tolist():
            rows = by == k
            mine = windows if rows.all() else windows[rows]
            if k == len(folds):
                answers[rows] = whole(mine)
                continue
            answered = asks[k](mine)
            answered[:, outputs.LOGITS] *= scales[k]
            answers[rows] = answered
        return answers

    return Speaker(ask, temperatures)


def together(subject: Subject, of_member: Callable[[Bundle], Speaker] = onnx) -> Speaker:
    """Return who speaks for a bundle, or for an ensemble: its members' answers, joined as the server joins them.

    Raises:
        BundleError: as `onnx`.
    """
    speakers = [of_member(bundle) for bundle in subject.members]
    if not subject.is_ensemble:
        return speakers[0]

    def ask(windows: F32, open_time_ms: I64) -> F32:
        return subject.joined([speaker.ask(windows, open_time_ms) for speaker in speakers])

    return Speaker(ask, subject.temperatures)


def _span(test: Mapping[str, str]) -> Span:
    return Span(ms_of(test["from"]), ms_of(test["before"]))
