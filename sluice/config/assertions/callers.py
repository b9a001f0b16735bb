"""Finds callers that meet conditions: with the API keys of a config, or with tokens of its issuers.

The claims of a token are those that the issuer chooses, so a token can have any. Each name of a
claim in a rule stands first for the claim with exactly this name, so that the values of two names
do not depend on each other: every caller that the rules can distinguish has a token here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import Final

from sluice.config.assertions.conditions import CLAIM, GROUPS, SUBJECT, All, Condition
from sluice.config.assertions.work import UndecidableError
from sluice.config.auth import ApiKey, JwtIssuer
from sluice.config.claim_values import claim_values
from sluice.config.claims import SPACE_SEPARATED

Test = Callable[[str], bool]

MAX_SUBJECTS: Final = 200_000
"""Subjects that are tried for a bucket. Each of 10,000 buckets is among the buckets of so many."""

_NUMBERS: Final = frozenset(("exp", "nbf", "iat"))
"""Claims that must be times."""

_USER: Final = "user"
"""Begin of a subject that no rule names."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller with a token (`issuer`), with an API key (`key`), or without credentials."""

    subject: str = ""
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)
    issuer: str = ""
    key: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether the caller has no credentials."""
        return not self.subject

    def claim_values(self, name: str) -> frozenset[str]:
        """The values of a claim as text, see `sluice.config.claim_values`."""
        return claim_values(self.claims, name)

    @classmethod
    def of_key(cls, key: ApiKey) -> "Caller":
        """The caller with an API key."""
        return cls(key.name, frozenset(key.groups), dict(key.claims), key=key.name)


ANONYMOUS: Final = Caller()


def with_token(issuer: JwtIssuer, conditions: All, is_subject: Test | None) -> Caller | None:
    """A caller with a token of the issuer who meets the conditions; None if nobody can.

    `is_subject`: a further condition on the subject. Raises UndecidableError.
    """
    claims = _Claims(issuer)
    for condition in conditions:
        claims.add(condition)
    found = claims.values(is_subject)
    if found is None:
        return None
    subject = found[issuer.subject_claim]
    assert isinstance(subject, str)
    return Caller(subject, claim_values(found, issuer.group_claim), found, issuer.issuer)


class _Claims:
    """The conditions on the claims of a token, by their names."""

    def __init__(self, issuer: JwtIssuer) -> None:
        self._issuer = issuer
        self._conditions: dict[str, list[Condition]] = {
            issuer.subject_claim: [],
            "iss": [Condition("", (issuer.issuer,))],
            "aud": [Condition("", issuer.audiences)],
        }
        self._texts = {issuer.subject_claim, "iss", "jti"}
        """Claims that must be text."""
        if _NUMBERS & {issuer.subject_claim, issuer.group_claim}:
            raise _undecidable(issuer.subject_claim)

    def add(self, condition: Condition) -> None:
        name = {SUBJECT: self._issuer.subject_claim, GROUPS: self._issuer.group_claim}.get(
            condition.property, condition.property.removeprefix(CLAIM)
        )
        is_split_text = name in self._texts and (name,) in SPACE_SEPARATED
        if name in _NUMBERS or (is_split_text and condition.property != SUBJECT):
            raise _undecidable(name)
        self._conditions.setdefault(name, []).append(condition)

    def values(self, is_subject: Test | None) -> dict[str, object] | None:
        """The claims; None if no token meets all conditions."""
        found: dict[str, object] = {}
        for name, conditions in self._conditions.items():
            wanted = [each for each in conditions if each.holds]
            unwanted = [each for each in conditions if not each.holds]
            value: object
            if name in self._texts:
                is_text = is_subject if name == self._issuer.subject_claim else None
                value = _text(wanted, unwanted, is_text)
            else:
                value = _list(wanted, unwanted)
            if value is None:
                return None
            if value:
                found[name] = value
        return found


def _undecidable(name: str) -> UndecidableError:
    return UndecidableError(
        f"rules that compare the claim {name} cannot be checked: compare another claim"
    )


def _text(
    wanted: Sequence[Condition], unwanted: Sequence[Condition], test: Test | None
) -> str | None:
    """A text, not empty, that meets all conditions."""
    exact = next((each for each in wanted if not each.prefix), None)
    candidates: Iterable[str]
    if exact is not None:
        candidates = exact.values
    else:
        begin = max((each.values[0] for each in wanted), key=len, default="")
        if any(each.prefix and begin.startswith(each.values) for each in unwanted):
            return None
        candidates = islice(_beginning_with(begin, unwanted), MAX_SUBJECTS if test else 8)
    return next(
        (
            each
            for each in candidates
            if each
            and all(_has(condition, each) for condition in wanted)
            and not any(_has(condition, each) for condition in unwanted)
            and (test is None or test(each))
        ),
        None,
    )


def _beginning_with(begin: str, unwanted: Sequence[Condition]) -> Iterator[str]:
    """Texts that begin so. Of each kind, some meet no unwanted condition, if that is possible."""
    yield begin or _USER
    fresh = _fresh(begin, unwanted)
    yield fresh
    numbers = ((f"{begin}{n}", f"{begin}0{n}", f"{fresh}{n}") for n in count(1))
    yield from chain.from_iterable(numbers)


def _list(wanted: Sequence[Condition], unwanted: Sequence[Condition]) -> list[str] | None:
    """A list in which each wanted condition finds its value, and no unwanted one finds any."""
    values = []
    for condition in wanted:
        value = next(
            (
                each
                for text in condition.values
                for each in ((text, _fresh(text, unwanted)) if condition.prefix else (text,))
                if not any(_has(other, each) for other in unwanted)
            ),
            None,
        )
        if value is None:
            return None
        values.append(value)
    return list(dict.fromkeys(values))


def _has(condition: Condition, text: str) -> bool:
    """Whether the condition finds the text, whatever it makes of that (`holds`)."""
    if condition.prefix:
        return text.startswith(condition.values)
    return text in condition.values


def _fresh(begin: str, unwanted: Sequence[Condition]) -> str:
    """The text with one more character, so that no longer unwanted text begins with it."""
    taken = {
        value[len(begin)]
        for condition in unwanted
        for value in condition.values
        if len(value) > len(begin) and value.startswith(begin)
    }
    letters = chain(map(chr, range(ord("a"), ord("z") + 1)), map(chr, range(0x30, 0xD800)))
    return begin + next(each for each in letters if each not in taken and each.isprintable())
