"""Rules about models and their versions: canaries and claim rules that select nothing."""

from collections.abc import Iterator

from sluice.config.analysis.rule import Found, Rule
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig
from sluice.config.models import ClaimRule


def _no_models(config: GatewayConfig) -> Found:
    if not config.models:
        yield ("models",), "the gateway has no models, and answers every request with 404"


def _idle_canary(config: GatewayConfig) -> Found:
    anonymous = not config.auth.accepts_credentials
    for name, model in config.models.items():
        for index, canary in enumerate(model.canaries):
            at = ("models", name, "canaries", index)
            if canary.headers or canary.model_types or canary.steps:
                continue
            if not canary.percent:
                yield at, f"no request selects the canary {canary.version}: its percent is 0"
            elif anonymous and model.bucket.header is None:
                message = "percent selects by subject, but no caller has credentials"
                yield at, f"no request selects the canary {canary.version}: {message}"


def _hidden_claim_rule(config: GatewayConfig) -> Found:
    for name, model in config.models.items():
        if len(model.claim_rules) < 2:
            continue
        earlier: dict[tuple[str, str, str], int] = {}
        for index, rule in enumerate(model.claim_rules):
            first = min((earlier[key] for key in _covering(rule) if key in earlier), default=None)
            if first is not None:
                message = f"claim_rules.{first} matches before, whenever this rule matches"
                yield ("models", name, "claim_rules", index), message
            earlier.setdefault((rule.claim, rule.match, rule.value), index)


def _idle_assertion(config: GatewayConfig) -> Found:
    for index, assertion in enumerate(config.assertions):
        if assertion.never is None:
            continue
        names = assertion.models or config.models
        versions = {version for name in names for version in config.models[name].versions}
        if versions.isdisjoint(assertion.never):
            message = "no model of the assertion has one of these versions"
            yield ("assert", index, "never"), message


def _covering(rule: ClaimRule) -> Iterator[tuple[str, str, str]]:
    """Claim, match and value of the rules that match every caller that this rule matches."""
    for end in range(len(rule.value) + 1):
        yield rule.claim, "prefix", rule.value[:end]
    if rule.match == "exact":
        yield rule.claim, "exact", rule.value


RULES = (
    Rule(
        WarningKind("no_models", "The config has no models.", "add a model to models"),
        _no_models,
    ),
    Rule(
        WarningKind(
            "idle_canary",
            "A canary has `headers: []`, no `model_types`, and 0 percent; or a percentage of "
            "users, but there are no users, because the config has no issuers and no API keys.",
            "set percent, headers or model_types, or bucket.header; or remove the canary",
        ),
        _idle_canary,
    ),
    Rule(
        WarningKind(
            "hidden_claim_rule",
            "An earlier claim rule matches all callers that a claim rule matches.",
            "move the rule with the longer value up, or remove this rule",
        ),
        _hidden_claim_rule,
    ),
    Rule(
        WarningKind(
            "idle_assertion",
            "No model that an assertion is about has a version that it names in `never`.",
            "correct the name of the version; if it is to come, ignore this warning until then",
        ),
        _idle_assertion,
    ),
)
