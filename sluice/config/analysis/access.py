"""Rules about callers: models that nobody may use, and conditions that no caller meets."""

from collections.abc import Mapping, Sequence

from sluice.config.analysis.callers import Callers, Values, is_split
from sluice.config.analysis.rule import Found, Rule
from sluice.config.enumeration import enumerated
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig
from sluice.config.limits import LimitMatch
from sluice.config.models import AllowRule, ClaimRule

MAX_NAMES = 3
"""Models that a warning names."""


def _no_credentials(config: GatewayConfig) -> Found:
    private = [name for name, model in config.models.items() if not model.access.public]
    if private and not config.auth.accepts_credentials:
        yield (
            ("auth",),
            "there is no issuer and no API key, so that every request for "
            f"{_models(private)} is refused (401)",
        )


def _no_authentication(config: GatewayConfig) -> Found:
    models = config.models.values()
    is_open = bool(models) and all(model.access.public for model in models)
    if is_open and not config.auth.accepts_credentials:
        yield ("auth",), f"everyone who reaches {config.listener.address} may use every model"


def _model_without_callers(config: GatewayConfig) -> Found:
    if not config.auth.accepts_credentials:
        return
    callers = Callers.of(config.auth)
    for name, model in config.models.items():
        allow = model.access.allow
        if allow and not any(_may_match(rule, callers) for rule in allow):
            yield ("models", name, "access", "allow"), "no caller can meet any of these rules"


def _rule_without_callers(config: GatewayConfig) -> Found:
    if not config.auth.accepts_credentials:
        return
    callers = Callers.of(config.auth)
    for name, model in config.models.items():
        possible = [_may_match(rule, callers) for rule in model.access.allow]
        for index, may_match in enumerate(possible if any(possible) else ()):
            if not may_match:
                yield ("models", name, "access", "allow", index), "no caller can meet this rule"
        for index, rule in enumerate(model.claim_rules):
            if not _may_select(rule, callers):
                why = "no caller can have a value that matches"
                yield ("models", name, "claim_rules", index), f"{why}{_space(rule)}"
    known = _known_values(config, callers)
    for index, limit in enumerate(config.limits.rules):
        for n, match in enumerate(limit.match):
            if not _may_limit(match, known, callers):
                message = f"no request can have such a {match.part}"
                yield ("limits", "rules", index, "match", n), message


def _key_without_models(config: GatewayConfig) -> Found:
    private = [model.access.allow for model in config.models.values() if not model.access.public]
    rules = [rule for allow in private for rule in allow]
    # A model that admits every caller, or a rule without groups, may admit a key.
    if not private or not all(private) or not all(rule.groups for rule in rules):
        return
    admitted = {group for rule in rules for group in rule.groups}
    for index, key in enumerate(config.auth.api_keys):
        if admitted.isdisjoint(key.groups):
            message = "this key is in no group that a model admits, so that it may use no model"
            yield ("auth", "api_keys", index), message


def _stream_without_credentials(config: GatewayConfig) -> Found:
    for name, stream in config.videos.items():
        public = config.models[stream.model].access.public
        if stream.enabled and not public and not stream.headers_from_secret:
            message = f"{stream.model} is not public, so that every frame is refused (401)"
            yield ("videos", name), message


def _may_match(rule: AllowRule, callers: Callers) -> bool:
    return (
        (not rule.groups or callers.may_have_group(rule.groups))
        and (not rule.subjects or callers.may_have_subject(rule.subjects))
        and all(callers.may_have_claim(name, value) for name, value in rule.claims.items())
    )


def _may_select(rule: ClaimRule, callers: Callers) -> bool:
    by_group = rule.claim == "group" and callers.groups.match(rule.match, rule.value)
    return by_group or callers.may_have_claim(rule.claim, rule.value, rule.match)


def _space(rule: ClaimRule) -> str:
    if is_split(rule.claim) and " " in rule.value:
        return f": {rule.claim} is a list of values without spaces"
    return ""


def _may_limit(match: LimitMatch, known: Mapping[str, Values], callers: Callers) -> bool:
    """Whether a request can meet a condition. A property that a request lacks is empty."""
    name = match.part.removeprefix("claim:")
    if name != match.part:
        return any(not v or callers.may_have_claim(name, v, match.match) for v in match.values)
    values = known.get(match.part)
    return values is None or any(not v or values.match(match.match, v) for v in match.values)


def _known_values(config: GatewayConfig, callers: Callers) -> dict[str, Values]:
    """The values of those properties of requests that cannot have every value."""
    models = config.models
    known = {
        "model": Values(models),
        "version": Values(version for model in models.values() for version in model.versions),
        "model_type": Values(model.type or "" for model in models.values()),
    }
    return (
        known if callers.tokens else {**known, "subject": callers.subjects, "group": callers.groups}
    )


def _models(names: Sequence[str]) -> str:
    noun = "model" if len(names) == 1 else "models"
    return f"{noun} {enumerated(names, maximum=MAX_NAMES)}"


RULES = (
    Rule(
        WarningKind(
            "stream_without_credentials",
            "A stream of a camera has no `headers_from_secret`, and its model is not public.",
            "set headers_from_secret, such as authorization, or access.public of the model",
        ),
        _stream_without_credentials,
    ),
    Rule(
        WarningKind(
            "no_credentials",
            "The config has no issuers and no API keys, and models that are not public: nobody "
            "may use them.",
            "add auth.issuers or auth.api_keys, or set access.public: true",
        ),
        _no_credentials,
    ),
    Rule(
        WarningKind(
            "no_authentication",
            "The config has no issuers and no API keys, and every model is public.",
            "add auth.issuers or auth.api_keys, and remove access.public",
        ),
        _no_authentication,
    ),
    Rule(
        WarningKind(
            "model_without_callers",
            "No API key meets any rule of `access.allow`, and there are no issuers whose tokens "
            "could; or the rules want a value of `scope` that contains a space.",
            "name groups, subjects and claims that auth.api_keys gives, or remove allow",
        ),
        _model_without_callers,
    ),
    Rule(
        WarningKind(
            "rule_without_callers",
            "One rule of `access.allow`, `claim_rules` or `limits.rules` can match no request: no "
            "API key has such a subject, group or claim and there are no issuers, no model has "
            "such a name, version or type, or a value of `scope` contains a space.",
            "correct the value, or remove the rule",
        ),
        _rule_without_callers,
    ),
    Rule(
        WarningKind(
            "key_without_models",
            "Every model needs groups, and an API key is in none of them.",
            "add a group to the key, or remove the key",
        ),
        _key_without_models,
    ),
)
