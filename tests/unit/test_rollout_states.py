"""Where a version of a model may go: pure."""

from __future__ import annotations

import json

import pytest

from candlecast.errors import InvalidRequest, WrongState
from candlecast.models.states import ALONE, NEXT, Standing, State, Version, event_as_json, event_of_json, newest_first

WHO = {"who": "tester", "why": "a test"}
WAY = (State.VERIFIED, State.LOADED, State.WARM, State.SHADOW, State.CHALLENGER, State.CHAMPION)


def version(number: int, state: State = State.PUSHED) -> Version:
    return Version("patchtst", number, f"{number:064x}", state, 0, is_loaded=state is State.CHAMPION)


def standing(*more: Version) -> Standing:
    made = Standing("patchtst")
    for one in (version(1, State.CHAMPION), *more):
        made, _ = made.added(one, **WHO)
    return made


def moved(made: Standing, number: int, *states: State) -> Standing:
    for state in states:
        made, _ = made.moved(number, state, **WHO)
    return made


def test_a_version_goes_its_whole_way_and_each_step_is_an_event_with_who_when_why_and_metrics():
    made, events = standing(version(2)), []
    for i, state in enumerate(WAY):
        made, more = made.moved(2, state, who="tester", why=f"step {i}", metrics={"i": i})
        events += [one for one in more if one.version == 2]
    assert [one.to_state for one in events] == list(WAY)
    assert [one.from_state for one in events] == [State.PUSHED, *WAY[:-1]]
    assert [(one.who, one.why, one.metrics) for one in events] == [("tester", f"step {i}", {"i": i}) for i in range(6)]
    assert all(one.at_ms > 0 and one.bundle_sha256 == f"{2:064x}" for one in events)
    assert made.champion.version == 2
    assert made[1].state is State.RETIRED


@pytest.mark.parametrize("before", list(State))
def test_no_version_takes_a_step_that_does_not_lead_on_from_where_it_is(before):
    for to in State:
        made = standing(version(2, before)) if before is not State.CHAMPION else standing()
        number = 2 if before is not State.CHAMPION else 1
        if to in NEXT[before] or to is before is State.CHALLENGER:
            assert made.moved(number, to, **WHO)[0][number].state is to
        else:
            with pytest.raises(WrongState, match=before.value):
                made.moved(number, to, **WHO)


@pytest.mark.parametrize("state", ALONE)
def test_a_state_of_which_there_is_one_is_taken_from_whoever_has_it(state):
    made = moved(standing(version(2), version(3)), 2, *WAY[: WAY.index(State.WARM) + 1], state)
    made = moved(made, 3, *WAY[: WAY.index(State.WARM) + 1])
    made, events = made.moved(3, state, **WHO)
    assert [one for one in made.versions.values() if one.state is state] == [made[3]]
    assert {one.version for one in events} == {2, 3}
    assert made[2].state is (State.RETIRED if state is State.CHAMPION else State.WARM)


def test_a_rollback_goes_back_one_champion_after_the_other_and_never_forward():
    made = standing(version(2), version(3))
    for number in (2, 3):
        made = moved(made, number, State.VERIFIED, State.LOADED, State.WARM, State.CHAMPION)
    made, events = made.rolled_back(State.FAILED, who="candlecast", why="NOT_FINITE", reason="NOT_FINITE: 3 of 9")
    assert (made.champion.version, made[3].state, made[3].reason) == (2, State.FAILED, "NOT_FINITE: 3 of 9")
    assert [(one.version, one.to_state) for one in events] == [(3, State.FAILED), (2, State.CHAMPION)]
    made, _ = made.rolled_back(State.RETIRED, **WHO)
    assert made.champion.version == 1
    with pytest.raises(WrongState, match="no former champion"):
        made.rolled_back(State.RETIRED, **WHO)


def test_a_rollback_passes_over_a_former_champion_that_failed_since():
    made = standing(version(2), version(3))
    for number in (2, 3):
        made = moved(made, number, State.VERIFIED, State.LOADED, State.WARM, State.CHAMPION)
    made = moved(made, 2, State.FAILED)
    assert made.rollback_target == 1


def test_another_bundle_of_the_same_version_is_refused_unless_that_one_was():
    made = moved(standing(version(2)), 2, State.VERIFIED)
    with pytest.raises(WrongState, match="another version"):
        made.added(version(2), **WHO)
    made = moved(standing(version(2)), 2, State.REFUSED)
    again, (event,) = made.added(version(2), **WHO)
    assert again[2].state is State.PUSHED
    assert event.from_state is State.REFUSED
    with pytest.raises(InvalidRequest, match="known: 1, 2"):
        again[7]


def test_a_standing_and_its_events_come_back_from_json_as_they_were():
    made = moved(standing(version(2)), 2, *WAY).with_loaded(2, True)
    made, events = made.rolled_back(State.FAILED, who="candlecast", why="ERRORS")
    assert Standing.of_json(json.loads(json.dumps(made.as_json()))) == made
    assert [event_of_json(json.loads(json.dumps(event_as_json(one)))) for one in events] == events
    assert newest_first(events) == events[::-1]  # of one millisecond
