"""Bounds the budgets that one client can create by choosing the values of a rule's key.

A client that uses a new header value in each request would otherwise fill the table of budgets, and
the budgets of others would be evicted.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b

from extproc.limits.arithmetic import MICROS_PER_SECOND, NEVER
from extproc.limits.rules import Rule

_MIN_DIVISOR = 8
"""An owner has budgets for at most an eighth of the keys of a process."""
_ALL_WORKERS_DIVISOR = 2
"""Through all workers, an owner has budgets for at most a half of the supervisor's table."""


@dataclass(slots=True)
class _Keys:
    """The keys of one owner and one rule."""

    expires: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """When the budget of a key is full again, if it is not used. In order of the latest use."""
    overflow_until: int = NEVER
    """When the common budget is full again, if it is not used."""


class KeyShares:
    """The keys that owners use. An owner is a subject, or the network of an anonymous client."""

    def __init__(self, max_keys: int, rules: int = 1, workers: int = 1) -> None:
        """`rules`: how many rules share `max_keys`. `workers`: how many processes do."""
        self._max_keys = max_keys
        divisor = max(_MIN_DIVISOR, _ALL_WORKERS_DIVISOR * workers)
        self._share = max(1, max_keys // (divisor * max(1, rules)))
        self._owners: OrderedDict[tuple[str, str], _Keys] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Keys that are remembered."""
        return self._count

    def keep(self, previous: "KeyShares") -> None:
        """Continue with the keys of `previous`: a new policy must not give new shares."""
        self._owners, self._count = previous._owners, previous._count

    def key(self, now: int, owner: str, rule: Rule, key: str) -> str:
        """The key of the budget to use: the key itself, or the owner's common one.

        New keys of an owner with too many share one budget. Later they get budgets of their own,
        but only when the common budget is full again: otherwise a key could use both.
        """
        owned = self._owned(owner, rule)
        expires = now + rule.window * MICROS_PER_SECOND
        if key not in owned.expires:
            self._drop_full(now, owned)
            if len(owned.expires) >= self._share or now < owned.overflow_until:
                owned.overflow_until = expires
                return _common_key(owner, rule)
            self._count += 1
        owned.expires[key] = expires
        owned.expires.move_to_end(key)
        self._bound()
        return key

    def current_key(self, now: int, owner: str, rule: Rule, key: str) -> str:
        """The key that `key` would return. Nothing is remembered."""
        owned = self._owners.get((owner, rule.name))
        if owned is None or key in owned.expires:
            return key
        unexpired = sum(expires > now for expires in owned.expires.values())
        full = unexpired >= self._share or now < owned.overflow_until
        return _common_key(owner, rule) if full else key

    def _owned(self, owner: str, rule: Rule) -> _Keys:
        place = owner, rule.name
        owned = self._owners.get(place)
        if owned is None:
            owned = self._owners[place] = _Keys()
        self._owners.move_to_end(place)
        return owned

    def _drop_full(self, now: int, owned: _Keys) -> None:
        """Forget keys whose budgets are full again."""
        while owned.expires and next(iter(owned.expires.values())) <= now:
            owned.expires.popitem(last=False)
            self._count -= 1

    def _bound(self) -> None:
        """Forget the owners that sent no request for the longest time."""
        while self._count > self._max_keys or len(self._owners) > self._max_keys:
            _, owned = self._owners.popitem(last=False)
            self._count -= len(owned.expires)


def _common_key(owner: str, rule: Rule) -> str:
    digest = blake2b(owner.encode(), digest_size=16).hexdigest()
    # No other key of a rule has this part: a hash has no letter after `f`.
    return f"{rule.prefix}:common:{digest}"
