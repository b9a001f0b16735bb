"""Rules about limits, breakers and timeouts that never have an effect."""

from sluice.config.analysis.rule import Found, Rule
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig


def _unreachable_limit(config: GatewayConfig) -> Found:
    outer = config.limits.listener
    if outer is None:
        return
    for key, limits in (
        ("models", config.limits.models),
        ("model_types", config.limits.model_types),
    ):
        for name, limit in limits.items():
            if limit.rate >= outer.rate and limit.burst >= outer.burst:
                yield (
                    ("limits", key, name),
                    f"limits.listener ({outer.rate} per second, burst {outer.burst}) refuses "
                    "requests before this limit can",
                )


def _idle_breaker(config: GatewayConfig) -> Found:
    for name, model in config.models.items():
        breaker = model.breaker
        reduces = breaker.reduce_above < 1 and breaker.admit < 1
        if breaker.enabled and breaker.refuse_above >= 1 and not reduces:
            message = "no error rate is above these thresholds, so that the breaker never opens"
            yield ("models", name, "breaker"), message


def _unused_key(config: GatewayConfig) -> Found:
    for index, issuer in enumerate(config.auth.issuers):
        for key in ("jwks_refresh", "jwks_max_stale"):
            if issuer.jwks_uri is None and key in issuer.model_fields_set:
                yield ("auth", "issuers", index, key), "only a key set of jwks_uri is fetched"
    for name, model in config.models.items():
        for version, each in model.versions.items():
            check = each.health_check
            if check is not None and each.protocol == "grpc" and "path" in check.model_fields_set:
                message = "a gRPC version is checked by grpc.health.v1.Health, without a path"
                yield ("models", name, "versions", version, "health_check", "path"), message
        attempt, whole = model.retries.per_try_timeout, model.timeout
        if attempt is not None and whole and attempt >= whole:
            message = "timeout ends the request before this timeout ends an attempt"
            yield ("models", name, "retries", "per_try_timeout"), message


RULES = (
    Rule(
        WarningKind(
            "unreachable_limit",
            "A limit of a model or a model type has at least the rate and the burst of "
            "`limits.listener`, which also counts these requests.",
            "lower this limit, raise limits.listener, or set limits.listener: null",
        ),
        _unreachable_limit,
    ),
    Rule(
        WarningKind(
            "idle_breaker",
            "A breaker is enabled, and its thresholds are 1: no error rate is higher.",
            "lower refuse_above or reduce_above, or set enabled: false",
        ),
        _idle_breaker,
    ),
    Rule(
        WarningKind(
            "unused_key",
            "A key has no effect, because of another key: `jwks_refresh` and `jwks_max_stale` "
            "without `jwks_uri`, `health_check.path` of a gRPC version, and `per_try_timeout` that "
            "is not below `timeout`.",
            "remove or change the key",
        ),
        _unused_key,
    ),
)
