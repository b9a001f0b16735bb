"""Checks all assertions of a config. An error shows a request for which one is not true."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sluice.config.assertion import Assertion
from sluice.config.assertions.keys import key_groups
from sluice.config.assertions.requests import Prefixes, Requests
from sluice.config.assertions.search import Credentials, Found, Search
from sluice.config.assertions.work import UndecidableError, Work
from sluice.config.auth import JwtIssuer
from sluice.config.errors import MAX_PROBLEMS, ConfigError, Place, unplaced
from sluice.config.gateway import GatewayConfig
from sluice.config.models import AllowRule, with_last_steps
from sluice.contract.reasons import Reason

MAX_COMMAND = 600
"""Characters of the command that an error shows."""

MAX_NAME = 100
"""Characters of the name of an assertion that an error shows."""

_WHY: Final = {
    Reason.VERSION_HEADER: "x-model-version names it",
    Reason.VERSION_PATH: "the path names it",
    Reason.CLAIM: "a claim rule selects it",
    Reason.CANARY_HEADER: "a header selects the canary",
    Reason.CANARY_BUCKET: "the user gets the canary by percent",
    Reason.CANARY_MODEL_TYPE: "x-model-type selects the canary",
    Reason.STABLE: "it is the stable version",
    Reason.UNAUTHENTICATED: "the request has no credentials",
    Reason.FORBIDDEN: "no rule of access.allow matches the caller",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A request for which an assertion is not true, to a model.

    `in_step`: it is true now, but not in a step of the canaries.
    """

    assertion: Assertion
    model: str
    found: Found
    in_step: bool = False

    @property
    def command(self) -> str:
        """The arguments of `sluice explain` that show the decision on the request."""
        request, caller = self.found.request, self.found.caller
        words = [request.path, "-X", request.method]
        for name, value in request.headers.items():
            words += ["-H", f"{name}: {value}" if value else f"{name};"]
        if caller.key:
            words += ["--api-key", caller.key]
        elif not caller.anonymous:
            words += ["--claims", json.dumps(caller.claims)]
        return shlex.join(words)

    def __str__(self) -> str:
        found, name = self.found, _bounded(self.assertion.name, MAX_NAME)
        if self.in_step:
            return (
                f"{name!r} will not be true: in a step of the canaries of {self.model}, users "
                f"beyond {self.assertion.max_canary_percent:g} % get {found.version}; lower the "
                "percentages of the steps, or change the assertion"
            )
        to = f"reaches {found.version} of {self.model}"
        what = to if found.version else f"to {self.model} is refused"
        return (
            f"{name!r} is not true: a request {what}, because {_WHY[found.reason]}; change the "
            "rules of the model, or the assertion; see "
            f"`sluice explain --offline CONFIG {_bounded(self.command, MAX_COMMAND)}`"
        )


def check_assertions(config: GatewayConfig, place: Place = unplaced) -> None:
    """Raises ConfigError with each assertion that is not true, or that cannot be checked."""
    problems = [place(("assert", index), text) for index, text in _errors(config)]
    if problems:
        raise ConfigError(problems[:MAX_PROBLEMS], omitted=len(problems[MAX_PROBLEMS:]))


def violations(config: GatewayConfig, assertion: Assertion, work: Work) -> Iterator[Violation]:
    """Requests for which the assertion is not true: one of each kind of models.

    Raises UndecidableError if that cannot be found out.
    """
    prefixes, credentials = Prefixes(config.models), _credentials(config)
    by_path = bool(assertion.request.paths or assertion.request.methods)
    seen = set()
    for name in assertion.models or config.models:
        model = config.models[name]
        if not by_path and model.rules in seen:
            continue
        seen.add(model.rules)
        requests = Requests(name, model, prefixes, assertion.request)
        found = Search(assertion, model, requests, credentials, work).found()
        if found is not None:
            yield Violation(assertion, name, found)
        elif assertion.max_canary_percent is not None and any(c.steps for c in model.canaries):
            # Only the sum of the percentages counts, so the last steps say the most.
            last = with_last_steps(model)
            found = Search(assertion, last, requests, credentials, work).found()
            if found is not None:
                yield Violation(assertion, name, found, in_step=True)


def _errors(config: GatewayConfig) -> Iterator[tuple[int, str]]:
    work = Work()
    for index, assertion in enumerate(config.assertions):
        try:
            violation = next(violations(config, assertion, work), None)
        except UndecidableError as error:
            yield index, str(error)
        else:
            if violation is not None:
                yield index, str(violation)


def _credentials(config: GatewayConfig) -> Credentials:
    rules: list[AllowRule] = [r for m in config.models.values() for r in m.access.allow]
    for assertion in config.assertions:
        rules += [each for each in (assertion.caller, assertion.unless) if each is not None]
    subjects = frozenset(subject for rule in rules for subject in rule.subjects)
    read = {name for rule in rules for name in rule.claims}
    read |= {r.claim for m in config.models.values() for r in m.claim_rules}
    issuers = list(config.auth.issuers)
    return Credentials(
        _distinct(issuers, read), key_groups(config.auth.api_keys, subjects),
        config.auth.api_key_header,
    )  # fmt: skip


def _distinct(issuers: list[JwtIssuer], read: set[str]) -> list[JwtIssuer]:
    """The issuers whose tokens the rules, which read these claims, can distinguish."""
    by_name = not read.isdisjoint(("iss", "aud"))
    found: dict[object, JwtIssuer] = {}
    for issuer in issuers:
        named = issuer.issuer if by_name else ""
        special = {issuer.subject_claim, issuer.group_claim} & {"iss", "aud"}
        kind = (issuer.subject_claim, issuer.group_claim, named or (special and issuer.issuer))
        found.setdefault(str(kind), issuer)
    return list(found.values())


def _bounded(text: str, maximum: int) -> str:
    return text if len(text) <= maximum else f"{text[: maximum - 3]}..."
