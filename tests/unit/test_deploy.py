"""The systemd units: valid to systemd, and their commands are commands of ours."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from candlecast.cli import parser
from candlecast.settings import CHECKOUT

UNITS = CHECKOUT / "deploy" / "systemd"
PROGRAM = "/opt/candlecast/.venv/bin/candlecast"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    units = sorted(map(str, tmp_path.iterdir()))

    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60)

    ours = [line for line in done.stderr.splitlines() if "candlecast" in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.parametrize(
    ("name", "command"),
    [("candlecast-retrain", "schedule"), ("candlecast-judge", "schedule"), ("candlecast-retention", "retention")],
)
def test_the_command_of_a_unit_is_a_command_and_its_timer_starts_it(name: str, command: str) -> None:
    (line,) = [line for line in (UNITS / f"{name}.service").read_text().splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart=").replace("$TRAIN_FLAGS", "--epochs 4"))

    assert words[0] == PROGRAM
    assert parser().parse_args(words[1:]).command == command
    assert "OnCalendar=" in (UNITS / f"{name}.timer").read_text()
