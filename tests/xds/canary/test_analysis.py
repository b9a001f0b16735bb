"""A canary with steps: what is decided, whatever happens to its config meanwhile."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.config.models import Model
from xds.canary.analysis import (
    Change,
    Kind,
    Phase,
    Plan,
    State,
    advanced,
    begin,
    judge,
    paused,
    reconciled,
    resumed,
    wanted,
)
from xds.canary.figures import Copies, Counts, Part, Seen, combined
from xds.envoys.criteria import Figures

NONE = Figures(0, 0, None)
GOOD = Figures(100, 0, 0.01)
BAD = Figures(100, 50, 0.01)


def plan(percent: float | None = None, **canary: object) -> Plan:
    steps = [{"percent": each, "duration": 60} for each in (5, 25, 50)]
    settings = {"version": "v2", "steps": steps, "criteria": {"max_error_rate": 0.1}, **canary}
    if percent is not None:
        settings["percent"] = percent
    versions = {name: {"endpoints": [{"address": "127.0.0.1:9"}]} for name in ("v1", "v2")}
    model = {"stable": "v1", "versions": versions, "canaries": [settings]}
    checked = Model.model_validate({**model, "mirror": {"version": "v2"}})
    return Plan.of(checked, checked.canaries[0])


MIRRORED = {"min_agreement": 0.9, "max_difference": 0.5}


def mirrored(percent: float) -> Plan:
    """A plan that begins with copies only, in the step with this percentage."""
    steps = [{"percent": each, "duration": 60} for each in (0, 25, 100)]
    return plan(percent, steps=steps, criteria=MIRRORED)


def seen(
    seconds: float = 60, canary: Figures = GOOD, stable: Figures = GOOD, **more: object
) -> Seen:
    return replace(Seen(seconds, "", canary, stable), **more)  # type: ignore[arg-type]


def look(state: State | None, found: Plan | None, revision: int, *, stable: bool = False) -> State:
    result = reconciled(state, found, is_stable=stable, revision=revision, at=0)
    assert result is not None
    return result


def started(step: int = 0) -> State:
    """The state in a step that is in force since revision 10."""
    found = plan(plan().steps[step].percent)
    state = replace(begin(found, "", "sluice", 0), appended=10, revision=9)
    return look(state, found, 10)


def moved(state: State, found: Plan, what: Seen) -> State:
    return advanced(found, state, judge(found, state, what), what, 1)


def test_a_canary_that_meets_its_criteria_goes_through_all_steps_and_is_promoted() -> None:
    state, percents = look(None, plan(), 1), []
    found = plan()
    for revision in range(2, 5):
        assert wanted(state, found) is Change.SET
        percents.append(found.steps[state.step].percent)
        state = replace(state, appended=revision)
        found = plan(percents[-1])
        state = moved(look(state, found, revision), found, seen())
    assert percents == [5, 25, 50]
    assert state.phase is Phase.PROMOTING
    assert wanted(state, found) is Change.PROMOTE
    assert look(state, None, 5, stable=True).phase is Phase.PROMOTED


@pytest.mark.parametrize(
    ("what", "kind", "reason"),
    [
        (seen(59.9), Kind.WAIT, "v2 100 requests, 0 % errors, p99 10 ms; v1"),
        (seen(), Kind.MET, "v2 100 requests"),
        (seen(1, BAD), Kind.FAIL, "50 % of 100 requests failed, more than 10 %"),
        (seen(1, Figures(99, 99, None)), Kind.WAIT, "v2 99 requests"),
        (seen(60, Figures(99, 99, None)), Kind.WAIT, "waits: v2 has 99 of 100 requests"),
        (seen(3659, NONE), Kind.WAIT, "waits: v2 has 0 of 100 requests"),
        (seen(3660, NONE), Kind.FAIL, "v2 has 0 of 100 requests within 61m"),
        (seen(9999, BAD, gap="reports are missing"), Kind.WAIT, "reports are missing"),
        (seen(1, NONE, is_open=True), Kind.FAIL, "the breaker of v2 is open"),
    ],
)
def test_a_step_is_judged_by_what_was_seen(what: Seen, kind: Kind, reason: str) -> None:
    verdict = judge(plan(5), started(), what)
    assert verdict.kind is kind
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize(
    ("percent", "copies", "canary", "kind", "reason"),
    [
        (0, Copies(100, 90, 0.5), NONE, Kind.MET, "v2 0 requests, 0 % errors; v1 100 requests"),
        (0, Copies(99, 0, 9), GOOD, Kind.WAIT, "waits: v2 has 99 of 100 copies"),
        (0, Copies(100, 89), NONE, Kind.FAIL, "89 % of 100 copies agree, less than 90 %"),
        (0, Copies(100, 100, 0.6), NONE, Kind.FAIL, "tensors of 100 copies differ by up to 0.6"),
        (0, Copies(100, 100), BAD, Kind.FAIL, "50 % of 100 requests failed, more than 5 %"),
        (25, Copies(100, 100), NONE, Kind.WAIT, "waits: v2 has 0 of 100 requests"),
        (25, Copies(99, 99), GOOD, Kind.WAIT, "waits: v2 has 99 of 100 copies"),
        (25, Copies(100, 89), GOOD, Kind.FAIL, "89 % of 100 copies agree"),
        (100, Copies(), GOOD, Kind.MET, "v2 100 requests"),
    ],
)
def test_a_step_is_judged_by_copies(
    percent: float, copies: Copies, canary: Figures, kind: Kind, reason: str
) -> None:
    found = mirrored(percent)
    verdict = judge(found, begin(found, "", "sluice", 0), seen(canary=canary, copies=copies))
    assert (verdict.kind, verdict.reason[: len(reason)]) == (kind, reason)


def test_a_step_with_copies_only_tells_their_figures() -> None:
    found = mirrored(0)
    verdict = judge(found, begin(found, "", "sluice", 0), seen(copies=Copies(200, 199, 0.25)))
    assert "; 200 copies, 99.5 % agree, largest difference 0.25; in 1m" in verdict.reason


def test_comparisons_use_the_last_step_in_which_the_stable_version_had_requests() -> None:
    criteria = {"max_error_rate_increase": 0.05, "max_p99_increase": 0.5}
    found = plan(5, criteria=criteria)
    state = begin(found, "", "sluice", 0)
    assert judge(found, state, seen(stable=NONE)).reason == "waits: v1 has 0 of 100 requests"
    state = moved(state, found, seen())
    assert (state.step, state.baseline) == (1, GOOD)
    assert judge(found, state, seen(stable=NONE)).kind is Kind.MET
    slow = judge(found, state, seen(canary=Figures(100, 0, 0.1), stable=NONE))
    assert slow.reason == "p99 of 100 requests is 100 ms, over 50 % more than the 10 ms of v1"


def test_a_failed_step_aborts_or_holds() -> None:
    aborting = moved(started(1), plan(25), seen(1, BAD))
    assert aborting.phase is Phase.ABORTING
    assert wanted(aborting, plan(25)) is Change.ABORT
    assert look(aborting, None, 11).phase is Phase.ABORTED
    holding = plan(25, on_failure="hold")
    held = moved(begin(holding, "", "sluice", 0), holding, seen(1, BAD))
    assert (held.phase, wanted(held, holding)) == (Phase.HELD, None)


def test_a_percentage_that_somebody_sets_stops_the_steps_until_they_are_resumed() -> None:
    held = look(started(1), plan(40), 11)
    assert (held.phase, held.reason) == (Phase.HELD, "revision 11 has set 40 %")
    again = resumed(held, plan(40), "ann", "go on", 2)
    assert (again.phase, again.step) == (Phase.RUNNING, 1)
    assert wanted(again, plan(40)) is Change.SET


def test_a_config_without_a_percentage_leaves_it_to_the_steps() -> None:
    state = look(started(1), plan(None), 11)
    assert (state.phase, state.step, wanted(state, plan(None))) == (Phase.RUNNING, 1, Change.SET)


def test_a_step_whose_revision_is_rolled_back_is_not_tried_again() -> None:
    state = replace(moved(started(), plan(5), seen()), appended=11)
    assert wanted(state, plan(5)) is None
    held = look(look(state, plan(5), 10), plan(5), 12)
    assert (held.phase, held.reason) == (Phase.HELD, "revision 12 has undone revision 11")


def test_the_first_step_is_not_tried_again_if_its_revision_is_rolled_back() -> None:
    found = plan(None)
    rejected = replace(begin(found, "", "sluice", 0), appended=10, revision=9)
    assert look(rejected, found, 9) == rejected
    assert look(rejected, found, 11).phase is Phase.HELD
    rolled_back = reconciled(started(), found, is_stable=False, revision=11, at=0, is_rollback=True)
    assert rolled_back is not None
    assert (rolled_back.phase, rolled_back.reason) == (
        Phase.HELD, "revision 11 has undone revision 10",
    )  # fmt: skip


def test_an_aborted_canary_that_comes_back_does_not_begin_by_itself() -> None:
    aborted = look(moved(started(), plan(5), seen(1, BAD)), None, 11)
    assert look(aborted, plan(None), 12).phase is Phase.HELD
    assert look(aborted, plan(None, criteria={"max_p99": 1}), 12).phase is Phase.RUNNING


def test_a_canary_that_is_removed_or_promoted_by_hand_has_ended() -> None:
    assert look(started(), None, 11).phase is Phase.ENDED
    assert look(started(), None, 11, stable=True).phase is Phase.ENDED
    assert look(look(started(), None, 11), None, 12).phase is Phase.ENDED


def test_a_control_plane_that_is_behind_changes_nothing() -> None:
    state = started(1)
    assert look(state, plan(5), 9) == state
    assert look(state, None, 9) == state


def test_a_paused_canary_stays_paused_with_another_plan() -> None:
    state = paused(started(), "ann", "wait", 1)
    assert wanted(state, plan(5)) is None
    assert look(state, plan(5, criteria={"max_p99": 1}), 11).phase is Phase.PAUSED


FIGURES = st.builds(
    lambda requests, share, p99: Figures(requests, round(requests * share), p99),
    st.integers(0, 300),
    st.floats(0, 1),
    st.none() | st.floats(0, 2),
)
SEEN = st.builds(
    Seen, st.floats(0, 5000), st.sampled_from(["", "", "", "gap"]), FIGURES, FIGURES, st.booleans()
)


@given(st.lists(SEEN, max_size=12), st.sampled_from(["abort", "hold"]))
def test_no_step_passes_early_or_with_too_many_errors(views: list[Seen], on_failure: str) -> None:
    found = plan(5, on_failure=on_failure)
    state = begin(found, "", "sluice", 0)
    for each in views:
        before = state
        if state.phase is not Phase.RUNNING:
            break
        state = moved(state, found, each)
        assert state == moved(before, found, each)
        went_on = state.step > before.step or state.phase is Phase.PROMOTING
        if each.gap:
            assert state == before
        if went_on:
            assert state.step - before.step <= 1
            assert each.seconds >= 60
            assert each.canary.requests >= 100
            assert each.canary.error_rate <= 0.1
        if not each.gap and each.canary.requests >= 100 and each.canary.error_rate > 0.1:
            assert state.phase is (Phase.HELD if on_failure == "hold" else Phase.ABORTING)


def test_the_control_planes_of_a_gateway_are_judged_together() -> None:
    one = Part(60, "worker", "", Counts(60, 6, {50: 60}), Counts(100, 0))
    both = combined([one, replace(one, seconds=30), Part(0, None, "")])
    assert (both.seconds, both.gap) == (30, "")
    assert (both.canary.requests, both.canary.errors) == (120, 12)
    copied = [
        replace(one, copies=Copies(*each)) for each in ((50, 49, 0.1), (0, 0, 0.0), (50, 40, 0.7))
    ]
    assert combined(copied).copies == Copies(100, 89, 0.7)
    assert combined([one, replace(one, gap="late")]).gap == "late"
    assert combined([Part(0, None, "")]).gap == "no Envoy or worker reports traffic"
