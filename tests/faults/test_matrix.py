"""A short, representative part of the fault matrix; `make faults` plays all of it."""

import asyncio

import pytest

from tests.faults.rows import ROWS
from tests.faults.run import play


@pytest.mark.parametrize("number", [1, 5, 16, 21], ids=lambda number: ROWS[number].name)
def test_a_fault_loses_nothing_and_doubles_nothing(number):
    figures = asyncio.run(play(number, seed=number, times=2, full=False))
    assert figures["injections"] >= 2
    assert (figures["lost"], figures["duplicated"], figures["failed_rows"]) == (0, 0, 0), figures
