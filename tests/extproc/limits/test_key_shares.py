"""A client that chooses many keys shares one budget, and takes no place of others."""

import pytest

from extproc.limits import Limiter, LimitVerdict, LocalBudgets, RequestView
from extproc.limits.key_shares import KeyShares
from extproc.limits.ledger import Ledger
from extproc.limits.rules import compile_rule
from sluice.config.limits import LimitRule

NOW = 1_700_000_000.0
SECOND = 1_000_000
RULE = compile_rule(LimitRule(name="r", key=("header:x",), rate=10, per="minute"))


def view(owner: str, value: str) -> RequestView:
    return RequestView(subject=owner, headers={"x": value})


def admitted(limiter: Limiter, request: RequestView, now: float = NOW) -> bool:
    verdict = limiter.check(now, request)
    assert isinstance(verdict, LimitVerdict)
    return verdict.admitted


def test_the_keys_of_one_client_do_not_lock_out_others() -> None:
    """One client sends 2,600 values, twice, with the smallest table. Another client had a key."""
    ledger = Ledger(max_keys=2000)
    rule = LimitRule(name="r", key=("header:x",), algorithm="sliding_window", rate=10, per="day")
    limiter = Limiter([rule], LocalBudgets(ledger), max_keys=2000)
    assert admitted(limiter, view("old", "old"))
    for value in range(2 * 2600):
        admitted(limiter, view("attacker", f"{value % 2600}"), NOW + 1)
    assert sum(admitted(limiter, view("old", "old"), NOW + 2) for _ in range(20)) == 9
    for new in range(500):
        assert admitted(limiter, view("new", f"new {new % 50}"), NOW + 2)
    assert ledger.evictions == 0
    assert len(ledger) < 400


@pytest.mark.parametrize(("rules", "workers"), [(10, 1), (1, 16), (4, 4)])
def test_the_keys_of_all_rules_and_workers_leave_room_for_others(rules: int, workers: int) -> None:
    """One client sends 400 values to every worker, and all workers share one table."""
    ledger = Ledger(max_keys=2000)
    configs = [LimitRule(name=f"r{n}", key=("header:x",), rate=10, per="day") for n in range(rules)]
    limiters = [
        Limiter(configs, LocalBudgets(ledger), max_keys=2000, workers=workers)
        for _ in range(workers)
    ]
    for index, limiter in enumerate(limiters):
        for value in range(400):
            admitted(limiter, view("attacker", f"{index} {value}"))
    assert ledger.evictions == 0
    assert len(ledger) < 1100


def test_a_new_policy_gives_a_client_no_new_share() -> None:
    ledger = Ledger(max_keys=2000)
    limiter = Limiter([RULE.config], LocalBudgets(ledger), max_keys=80)
    for policy in range(10):
        for value in range(20):
            admitted(limiter, view("attacker", f"{policy} {value}"))
        replaced, limiter = limiter, Limiter([RULE.config], LocalBudgets(ledger), max_keys=80)
        limiter.keep_shares(replaced)
    assert len(ledger) == 11


def test_the_keys_beyond_the_share_have_one_budget() -> None:
    limiter = Limiter([RULE.config], LocalBudgets(Ledger(1000)), max_keys=80)
    counts = [
        sum(admitted(limiter, view("a", f"{value}")) for _ in range(20)) for value in range(15)
    ]
    assert counts == [10] * 11 + [0] * 4


def test_a_key_gets_its_own_budget_only_when_the_common_one_is_full_again() -> None:
    shares = KeyShares(max_keys=8)
    full = RULE.window * SECOND
    assert shares.key(0, "a", RULE, "k1") == "k1"
    common = shares.key(full - 1, "a", RULE, "k2")
    assert common not in ("k1", "k2")
    assert shares.key(full, "a", RULE, "k2") == common
    assert shares.key(2 * full - 1, "a", RULE, "k3") == common
    assert shares.key(3 * full, "a", RULE, "k2") == "k2"


def test_a_key_in_use_keeps_its_own_budget() -> None:
    shares = KeyShares(max_keys=16)
    for now in range(0, 5 * RULE.window, 1):
        assert shares.key(now * SECOND, "a", RULE, "used") == "used"
        shares.key(now * SECOND, "a", RULE, f"other {now}")


def test_owners_have_shares_of_their_own() -> None:
    shares = KeyShares(max_keys=8)
    assert shares.key(0, "a", RULE, "k1") == "k1"
    assert shares.key(0, "b", RULE, "k2") == "k2"
    assert shares.key(0, "b", RULE, "k1") != shares.key(0, "a", RULE, "k2")


def test_the_number_of_remembered_keys_is_bounded() -> None:
    shares = KeyShares(max_keys=16)
    for owner in range(100):
        for key in range(3):
            shares.key(0, f"{owner}", RULE, f"{owner} {key}")
        assert len(shares) <= 16


@pytest.mark.parametrize(
    ("key", "chosen"),
    [
        (("header:x",), True),
        (("subject", "header:x"), True),
        (("client_address",), True),
        (("subject", "model", "claim:tier"), False),
        ((), False),
    ],
)
def test_only_keys_that_clients_choose_are_shared(key: tuple[str, ...], chosen: bool) -> None:
    assert compile_rule(LimitRule(name="r", key=key, rate=1)).client_chosen is chosen


def test_the_addresses_of_an_ipv6_network_have_one_owner() -> None:
    one, two, other = (
        RequestView(client_address=address)
        for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
    )
    assert one.owner == two.owner != other.owner
    assert RequestView(subject="s").owner != RequestView(client_address="s").owner
