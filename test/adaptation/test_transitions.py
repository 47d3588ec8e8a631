"""The table of states: whatever happens in whatever order, there is a way on and a way back."""

import itertools

import pytest

from pnp_ros.adaptation.status import TRANSITIONS, AdaptationState, Event, FaultCause, after

WISHES = (Event.PAUSE, Event.RESUME, Event.RESET)


def reachable(start: AdaptationState) -> set[AdaptationState]:
    found, new = {start}, {start}
    while new:
        new = {to for state in new for to in TRANSITIONS[state].values()} - found
        found |= new
    return found


@pytest.mark.parametrize("state", AdaptationState)
def test_every_state_leads_to_every_other(state: AdaptationState) -> None:
    assert reachable(state) == set(AdaptationState)


def test_every_event_leads_somewhere() -> None:
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(AdaptationState, Event)))
def test_the_table_is_what_happens(state: AdaptationState, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert after(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(ValueError, match=f"{event.name} cannot come in the state {state.name}"):
            after(state, event)


@pytest.mark.parametrize("state", sorted(set(AdaptationState) - {AdaptationState.CHECKING}))
def test_the_users_wishes_are_met_in_every_state_between_two_pieces_of_work(state: AdaptationState) -> None:
    assert set(WISHES) <= TRANSITIONS[state].keys()
    assert after(state, Event.PAUSE) is AdaptationState.PAUSED
    assert after(state, Event.RESET) is AdaptationState.COLLECTING


def test_only_what_mends_a_fault_and_the_user_end_it() -> None:
    ends = {event for event, to in TRANSITIONS[AdaptationState.FAULT].items() if to is not AdaptationState.FAULT}
    assert ends == {Event.MENDED, Event.PAUSE, Event.RESET}
    assert len(FaultCause) == 2
