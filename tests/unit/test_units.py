"""The systemd units of the nightly retraining, as systemd itself reads them."""

import shutil
import subprocess

import pytest

from candlecast.settings import CHECKOUT

UNITS = sorted((CHECKOUT / "deploy" / "systemd").glob("candlecast-gate-retrain.*"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_against_a_unit(unit):
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
