"""What a person sees of a fit while it runs, what the record notes, and what Ctrl-C leaves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from candlecast.training.family import Fitted
from candlecast.training.folds import Shown, settle
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


FITTED = Fitted(1.0, 1.1, best_step=30, steps=40, planned=100, seconds=1.0, interrupted=True)


@pytest.mark.parametrize("has_checkpoints", [True, False])
@pytest.mark.parametrize("has_bundle", [True, False])
def test_ctrl_c_leaves_a_bundle_that_was_there_and_speaks_of_resuming_only_with_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_bundle: bool, has_checkpoints: bool
) -> None:
    out, checkpoints, lines = tmp_path / "out", tmp_path / "out.resume", list[str]()
    monkeypatch.setattr(Shown, "say", lambda self, line: lines.append(line))
    shown = Shown(progress_bars(), lambda **where: None)
    out.mkdir()
    checkpoints.mkdir()
    if has_bundle:
        (out / "manifest.json").touch()
    if has_checkpoints:
        (checkpoints / "fold 1.checkpoint").touch()
    if has_bundle:
        with pytest.raises(KeyboardInterrupt, match=f"the bundle that was at {out} stays") as ended:
            settle("fold 1", FITTED, "lstm", out, checkpoints, shown)
        shown.say(str(ended.value))
    else:
        settle("fold 1", FITTED, "lstm", out, checkpoints, shown)
        assert "kept fold 1 at step 30" in lines[0]
    (line,) = lines
    assert ("--resume goes on" in line) == has_checkpoints
    assert ("lstm has no checkpoints" in line) is not has_checkpoints
