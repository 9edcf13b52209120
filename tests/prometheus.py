"""Debian's Prometheus and its promtool, where they are: on the PATH, or unpacked by `make prometheus`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy" / "prometheus"
UNPACKED = ROOT / "target" / "prometheus" / "usr" / "bin"


def program(name: str) -> str:
    """Return the path of prometheus or promtool; without it the test is skipped, and says what would bring it."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        pytest.skip(f"no {name}: `make prometheus` unpacks Debian's package")
    return found
