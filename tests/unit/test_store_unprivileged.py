import os
import tempfile
from pathlib import Path

import pytest

from candlecast.errors import ConfigurationError
from candlecast.store import unprivileged
from candlecast.store.unprivileged import DAC_OVERRIDE, DAC_READ_SEARCH, SETPCAP, Account, command_prefix

STRANGER = Account("stranger", 40_000, 40_000)


@pytest.fixture
def places():
    """A program and a directory which everybody may reach."""
    with tempfile.TemporaryDirectory() as base:
        program, directory = Path(base, "wheel", "program"), Path(base, "state", "data")
        for path in (program.parent, directory):
            path.mkdir(parents=True)
        program.touch()
        for path in (Path(base), program.parent, program, directory.parent, directory):
            path.chmod(0o755)
        yield program.resolve(), directory.resolve()


@pytest.fixture
def capabilities(monkeypatch):
    def hold(*numbers):
        monkeypatch.setattr(unprivileged, "_capabilities", lambda: set(numbers))

    return hold


def prefix(places):
    return " ".join(command_prefix(STRANGER, [places[0]], [places[1]]))


def test_nothing_is_kept_where_nothing_is_closed(places, capabilities):
    capabilities(DAC_OVERRIDE, DAC_READ_SEARCH, SETPCAP)
    assert "--ambient-caps" not in prefix(places)
    assert "--pdeathsig INT --reuid 40000 --regid 40000 --clear-groups" in prefix(places)


def test_the_smallest_capability_that_opens_a_closed_directory_is_kept(places, capabilities):
    places[1].parent.chmod(0o700)
    capabilities(DAC_OVERRIDE, DAC_READ_SEARCH, SETPCAP)
    assert "--ambient-caps -all,+dac_read_search" in prefix(places)
    capabilities(DAC_OVERRIDE, SETPCAP)
    assert "--ambient-caps -all,+dac_override" in prefix(places)


def test_only_the_greater_capability_runs_a_program_that_is_closed_itself(places, capabilities):
    places[0].chmod(0o700)
    capabilities(DAC_OVERRIDE, DAC_READ_SEARCH, SETPCAP)
    assert "--ambient-caps -all,+dac_override" in prefix(places)


@pytest.mark.parametrize("held", [(), (SETPCAP,), (DAC_READ_SEARCH, DAC_OVERRIDE)])
def test_without_a_capability_the_closed_directory_is_named(places, capabilities, held):
    places[1].parent.chmod(0o700)
    capabilities(*held)
    with pytest.raises(ConfigurationError, match=rf"stranger may not enter {places[1].parent}.*chmod o\+x"):
        prefix(places)


def test_who_is_not_root_needs_no_help(places):
    assert command_prefix(None, [places[0]], [places[1]]) == []


def test_what_we_hold_is_read_from_the_kernel():
    assert (SETPCAP in unprivileged._capabilities()) <= (os.geteuid() == 0)
