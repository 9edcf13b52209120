"""What a person sees of a fit while it runs, and what the record notes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from candlecast.training.folds import Shown
from candlecast.training.progress import progress_bars


def test_progress_shows_the_step_the_time_left_and_both_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, now, notes = progress_bars(), [0.0], list[dict[str, Any]]()
    monkeypatch.setattr(progress, "get_time", lambda: now[0])
    on_step = Shown(progress, lambda **where: notes.append(where)).steps("fold 1")

    for step in range(1, 16):
        now[0] += 2.0
        on_step(step, 60, 1.5 - step / 100, 1.25)

    line = io.StringIO()
    Console(file=line, width=160).print(progress.get_renderable())
    assert "fold 1" in line.getvalue() and "15/60" in line.getvalue()
    assert "0:01:30" in line.getvalue()  # 45 steps of 2 s
    assert "loss 1.3500, validation 1.2500" in line.getvalue()
    assert notes == [{"phase": "fold 1", "step": 10, "steps": 60, "loss": 1.4, "validation_loss": 1.25}]


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as progress:
        Shown(progress, lambda **where: None).say("kept")

    shown = capsys.readouterr()
    assert "kept" in shown.err and not shown.out
