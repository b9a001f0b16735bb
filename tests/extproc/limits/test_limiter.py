"""Rules select requests, set their costs, and are reported in response headers."""

import asyncio
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth import Identity
from extproc.limits import (
    Limiter,
    LimitVerdict,
    LocalBudgets,
    RequestView,
    RuleState,
    limit_headers,
)
from extproc.limits.ledger import Ledger
from extproc.limits.rules import compile_rule
from sluice.config.limits import Cost, LimitMatch, LimitRule

NOW = 1_700_000_000.0


def with_claim(**claims: object) -> RequestView:
    return RequestView(claims=Identity("alice", "issuer", claims=claims).claim_values)


ALICE, BOB = RequestView(subject="alice"), RequestView(subject="bob")


def limiter(*rules: LimitRule) -> Limiter:
    return Limiter(rules, LocalBudgets(Ledger(1000)))


def check(found: Limiter, view: RequestView, now: float = NOW) -> LimitVerdict:
    verdict = found.check(now, view)
    assert isinstance(verdict, LimitVerdict)
    return verdict


def admitted(found: Limiter, view: RequestView, requests: int = 100) -> int:
    return sum(check(found, view).admitted for _ in range(requests))


def inspected(found: Limiter, view: RequestView, now: float = NOW) -> list[RuleState]:
    return asyncio.run(found.inspect(now, view))


@given(
    requests=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=40),
    algorithm=st.sampled_from(["token_bucket", "fixed_window", "sliding_window"]),
    max_keys=st.sampled_from([2, 8, 1000]),
)
def test_an_inspection_says_what_the_next_check_does_and_changes_nothing(
    requests: list[tuple[str, int]],
    algorithm: Literal["token_bucket", "fixed_window", "sliding_window"],
    max_keys: int,
) -> None:
    rules = [
        LimitRule(name="each", key=("header:x",), algorithm=algorithm, rate=3, per="minute"),
        LimitRule(name="all", rate=8, per="minute", shadow=True),
    ]
    watched, other = (Limiter(rules, LocalBudgets(Ledger(max_keys)), max_keys) for _ in range(2))
    now = NOW
    for value, pause in requests:
        now += pause
        view = RequestView(subject="a", headers={"x": value})
        states = inspected(watched, view, now)
        assert states == inspected(watched, view, now)
        verdict = check(watched, view, now)
        assert verdict == check(other, view, now)
        each, common = states
        assert each.admits == verdict.admitted
        assert each.remaining - each.cost * verdict.admitted == verdict.remaining
        assert each.retry_after == verdict.retry_after
        assert common.shadow
    assert watched.counts == other.counts


def test_an_inspection_has_only_the_rules_that_apply() -> None:
    match = LimitMatch(part="subject", values=("bob",))
    found = limiter(LimitRule(name="bob", match=(match,), rate=5, cost=Cost(constant=2)))
    assert inspected(found, ALICE) == []
    (state,) = inspected(found, BOB)
    assert (state.name, state.limit, state.remaining, state.cost) == ("bob", 5, 5, 2)


def test_without_a_rule_every_request_is_admitted() -> None:
    assert check(limiter(), ALICE) == LimitVerdict(admitted=True)


def test_every_subject_has_a_budget_of_its_own() -> None:
    found = limiter(LimitRule(name="each", key=("subject",), rate=5, per="minute"))
    assert (admitted(found, ALICE), admitted(found, BOB)) == (5, 5)


def test_a_rule_without_a_key_is_one_budget_for_everyone() -> None:
    found = limiter(LimitRule(name="all", rate=5, per="minute"))
    assert (admitted(found, ALICE), admitted(found, BOB)) == (5, 0)


@pytest.mark.parametrize(
    ("part", "one", "other"),
    [
        ("subject", RequestView(subject="a"), RequestView(subject="b")),
        ("group", RequestView(groups=("a", "b")), RequestView(groups=("a",))),
        ("claim:tier", with_claim(tier="x"), with_claim(tier="y")),
        ("model", RequestView(model="a"), RequestView(model="b")),
        ("version", RequestView(version="1"), RequestView(version="2")),
        ("model_type", RequestView(model_type="text"), RequestView(model_type=None)),
        ("header:x-t", RequestView(headers={"x-t": "1"}), RequestView(headers={"x-t": "2"})),
        ("client_address", RequestView(client_address="1"), RequestView(client_address="2")),
    ],
)
def test_requests_that_differ_in_a_part_of_the_key_have_different_budgets(
    part: str, one: RequestView, other: RequestView
) -> None:
    found = limiter(LimitRule(name="each", key=(part,), rate=5, per="minute"))
    assert (admitted(found, one), admitted(found, other), admitted(found, one)) == (5, 5, 0)


def test_the_order_of_groups_does_not_change_the_budget() -> None:
    rule = compile_rule(LimitRule(name="each", key=("group",), rate=5))
    assert rule.key(RequestView(groups=("a", "b"))) == rule.key(RequestView(groups=("b", "a")))


@pytest.mark.parametrize("other", [["b", "a"], ["a", "b", "a"], ["b", "a", None]], ids=str)
def test_the_order_of_a_claim_in_the_token_does_not_change_the_budget(other: list[str]) -> None:
    """Otherwise, a caller with two tokens would have two budgets."""
    rule = compile_rule(LimitRule(name="each", key=("claim:t",), rate=5))
    assert rule.key(with_claim(t=["a", "b"])) == rule.key(with_claim(t=other))
    assert rule.key(with_claim(t=["a", "b"])) != rule.key(with_claim(t=["a"]))


def test_a_claim_that_is_not_text_does_not_fail_the_request() -> None:
    rule = compile_rule(LimitRule(name="each", key=("claim:t",), rate=5))
    assert rule.key(with_claim(t="\ud800")) == rule.key(RequestView())


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_different_values_have_different_budgets(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    rule = compile_rule(LimitRule(name="each", key=("subject", "model"), rate=5))
    keys = {rule.key(RequestView(subject=s, model=m)) for s, m in (one, other)}
    assert len(keys) == len({one, other})


def test_a_request_without_the_header_of_the_key_is_limited_too() -> None:
    found = limiter(LimitRule(name="each", key=("header:x-tenant",), rate=5, per="minute"))
    assert admitted(found, ALICE) == 5


@pytest.mark.parametrize(
    ("match", "view", "applies"),
    [
        (LimitMatch(part="group", values=("vip",)), RequestView(groups=("a", "vip")), True),
        (LimitMatch(part="group", values=("vip",)), RequestView(groups=("a",)), False),
        (LimitMatch(part="model", values=("a", "b")), RequestView(model="b"), True),
        (LimitMatch(part="model", values=("a", "b")), RequestView(model="bb"), False),
        (LimitMatch(part="model", values=("b",), match="prefix"), RequestView(model="bb"), True),
        (LimitMatch(part="claim:t", values=("x",)), RequestView(), False),
        (LimitMatch(part="claim:t", values=("",)), RequestView(), True),
        (LimitMatch(part="claim:t", values=("42",)), with_claim(t=[7, 42]), True),
        (LimitMatch(part="claim:t", values=("4",), match="prefix"), with_claim(t=[7, 42]), True),
        (LimitMatch(part="claim:scope", values=("infer",)), with_claim(scope="read infer"), True),
        (LimitMatch(part="claim:r.s", values=("a",)), with_claim(r={"s": ["a"]}), True),
    ],
)
def test_a_rule_applies_to_requests_that_match(
    match: LimitMatch, view: RequestView, applies: bool
) -> None:
    assert compile_rule(LimitRule(name="r", match=(match,), rate=1)).applies(view) is applies


def test_the_strictest_rule_refuses_and_a_refused_request_takes_no_tokens() -> None:
    found = limiter(
        LimitRule(name="wide", rate=10, per="hour"),
        LimitRule(name="narrow", key=("subject",), rate=3, per="hour"),
    )
    assert admitted(found, ALICE) == 3
    refused = check(found, ALICE)
    assert (refused.rule, refused.retry_after) == ("narrow", 1200)
    assert admitted(found, BOB) == 3
    assert check(found, RequestView(subject="carol")).rule == "wide"
    assert found.counts["wide"].admitted == 7


def test_a_shadow_rule_counts_refusals_and_admits() -> None:
    found = limiter(LimitRule(name="trial", rate=3, per="hour", shadow=True))
    assert admitted(found, ALICE, requests=10) == 10
    counts = found.counts["trial"]
    assert (counts.admitted, counts.shadow_refused, counts.refused) == (3, 7, 0)


@pytest.mark.parametrize(
    ("cost", "view", "tokens"),
    [
        (Cost(constant=3), RequestView(), 3),
        (Cost(per_body=1000), RequestView(body_size=1001), 2),
        (Cost(per_body=1000), RequestView(body_size=0), 1),
        (Cost(per_body=1000), RequestView(body_size=None), 50),
        (Cost(per_body=1000, maximum=7), RequestView(body_size=10**9), 7),
        (Cost(header="x-images"), RequestView(headers={"x-images": "4"}), 4),
        (Cost(header="x-images", constant=2), RequestView(headers={"x-images": "0"}), 2),
        (Cost(header="x-images"), RequestView(), 1),
        (Cost(header="x-images"), RequestView(headers={"x-images": "0" * 5000 + "4"}), 4),
        # A larger number, of any length, takes the maximum. So does what is not a number.
        *(
            (Cost(header="x-images"), RequestView(headers={"x-images": value}), 50)
            for value in (
                "51",
                "999999",
                "1000000000",
                "9" * 5000,
                "-4",
                "+4",
                "4, 4",
                "1e3",
                "4.0",
                "",
                "many",
                "\u0664",
            )
        ),
        (Cost(header="x-images", maximum=7), RequestView(headers={"x-images": "10000000000"}), 7),
    ],
)
def test_a_request_takes_the_tokens_of_its_cost(cost: Cost, view: RequestView, tokens: int) -> None:
    rule = LimitRule(name="r", rate=50, per="hour", cost=cost)
    assert compile_rule(rule).cost(view) == tokens
    assert check(limiter(rule), view).remaining == 50 - tokens


def test_headers_report_the_remaining_tokens_and_when_to_retry() -> None:
    found = limiter(LimitRule(name="per-user", rate=10, per="minute", burst=20))
    assert limit_headers(check(found, ALICE)) == [
        ("ratelimit-policy", '"per-user";q=20;w=120'),
        ("ratelimit", '"per-user";r=19;t=0'),
    ]
    assert admitted(found, ALICE) == 19
    assert limit_headers(check(found, ALICE)) == [
        ("retry-after", "6"),
        ("ratelimit-policy", '"per-user";q=20;w=120'),
        ("ratelimit", '"per-user";r=0;t=120'),
    ]
    assert limit_headers(check(found, ALICE), describe=False) == [("retry-after", "6")]


def test_a_fixed_window_ends_with_the_minute_of_the_clock() -> None:
    found = limiter(LimitRule(name="r", algorithm="fixed_window", rate=2, per="minute"))
    at = [0.0, 0.0, 0.0, 59.9, 60.0]
    start = NOW - NOW % 60
    assert [check(found, ALICE, start + t).admitted for t in at] == [True, True, False, False, True]


def test_a_sliding_window_admits_its_rate_in_any_span() -> None:
    found = limiter(LimitRule(name="r", algorithm="sliding_window", rate=2, per="minute"))
    at = [59.0, 59.5, 61.0, 118.0, 121.5]
    start = NOW - NOW % 60
    assert [check(found, ALICE, start + t).admitted for t in at] == [True, True, False, False, True]
