"""Random histories of a budget whose holders spend, settle, vanish and send late requests."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from extproc.limits.arithmetic import Algorithm, LeaseGrant, LeaseRequest, Limit

SECOND = 1_000_000
START = 1_700_000_000 * SECOND + 123_456

limits = st.builds(
    lambda algorithm, rate, unit, burst: Limit(
        algorithm, rate, unit, burst if algorithm is Algorithm.TOKEN_BUCKET else rate
    ),
    st.sampled_from(Algorithm),
    st.integers(1, 200),
    st.sampled_from([SECOND, 60 * SECOND]),
    st.integers(1, 200),
)


@dataclass(frozen=True)
class Step:
    """After `elapsed` µs, a holder spends and sends a request. Request or response may be lost."""

    elapsed: int
    holder: int
    spend: int
    want: int
    keep: int
    request_delivered: bool
    response_delivered: bool


steps = st.lists(
    st.builds(
        Step,
        st.one_of(st.integers(0, 50_000), st.integers(0, 3_000_000)),
        st.integers(0, 2),
        st.integers(0, 60),
        st.integers(0, 60),
        st.integers(0, 60),
        st.booleans() | st.just(True),
        st.booleans() | st.just(True),
    ),
    max_size=60,
)


@dataclass
class Holder:
    name: str
    tokens: int = 0
    expires: int = 0
    sequence: int = 0


@dataclass
class History:
    """Plays steps against an exchange, and records the time at which each token is spent."""

    limit: Limit
    exchange: Callable[[int, LeaseRequest], LeaseGrant]
    lifetime: int = SECOND
    now: int = START
    spent: list[tuple[int, int]] = field(default_factory=list)
    grants: list[LeaseGrant] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.holders = [Holder(f"holder{n}") for n in range(3)]

    def play(self, step: Step) -> None:
        self.now += step.elapsed
        holder = self.holders[step.holder]
        if self.now >= holder.expires:
            holder.tokens = 0
        self._spend(holder, step.spend)
        holder.sequence += 1
        held = min(step.keep, holder.tokens)
        request = LeaseRequest(
            "key", self.limit, holder.name, holder.sequence,
            held, holder.tokens - held, step.want, self.lifetime,
        )  # fmt: skip
        holder.tokens = held
        if step.request_delivered:
            grant = self.exchange(self.now, request)
            self.grants.append(grant)
            if step.response_delivered:
                holder.tokens += grant.tokens
                holder.expires = self.now + grant.lifetime

    def spend_everything(self) -> None:
        for holder in self.holders:
            if self.now < holder.expires:
                self._spend(holder, holder.tokens)

    def _spend(self, holder: Holder, wanted: int) -> None:
        tokens = min(wanted, holder.tokens)
        holder.tokens -= tokens
        if tokens:
            self.spent.append((self.now, tokens))


def assert_limit_holds(limit: Limit, spent: list[tuple[int, int]]) -> None:
    """Check the limit for every span that starts and ends when tokens are spent."""
    for first in range(len(spent)):
        total = 0
        start = spent[first][0]
        for at, tokens in spent[first:]:
            total += tokens
            if limit.algorithm is Algorithm.TOKEN_BUCKET:
                allowed = limit.capacity * limit.unit + limit.rate * (at - start)
                assert total * limit.unit <= allowed
            elif limit.algorithm is Algorithm.SLIDING_WINDOW:
                assert at - start >= limit.unit or total <= limit.rate
            elif at // limit.unit == start // limit.unit:
                assert total <= limit.rate
