"""Limits and breakers: who is refused to protect models, and whether the protection works."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.source.panels import (
    ALL,
    GREEN,
    MODEL,
    RED,
    YELLOW,
    dashboard,
    graph,
    models,
    rate,
    ratio,
    timeline,
)

BREAKERS = {"0": ("closed", GREEN), "1": ("reduced", YELLOW), "2": ("open", RED)}
NAMES = "{{model}}/{{version}}"


def board() -> Dashboard:
    """What limits and breakers refuse."""
    return (
        dashboard(
            "limits",
            "Limits and breakers",
            "What limits and breakers refuse, and whether the backend of the limits answers.",
            models(),
        )
        .with_row(Row("Limits"))
        .with_panel(
            graph(
                "Requests refused by limits",
                "Status 429, by the rule or the local limit.",
                "reqps",
                (
                    rate(
                        "sluice_requests_total",
                        "model, rule",
                        f'{MODEL}, reason="rate_limited"',
                    ),
                    "{{model}}: {{rule}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Share of requests refused by limits",
                "Status 429, of all requests of the model.",
                "percentunit",
                (
                    ratio(
                        rate("sluice_requests_total", "model", f'{MODEL}, reason="rate_limited"'),
                        rate("sluice_requests_total", "model", MODEL),
                    ),
                    "{{model}}",
                ),
                most=1,
            )
        )
        .with_panel(
            graph(
                "Verdicts of rules",
                "Of limits.rules. unavailable: refused because the rule could not be checked. "
                "shadow_refused: would be refused.",
                "reqps",
                (
                    rate("sluice_limit_requests_total", "rule, verdict", ALL),
                    "{{rule}} {{verdict}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Rate limit service",
                "Hits of other Envoys and of limits.domains, by verdict.",
                "reqps",
                (
                    rate("sluice_ratelimit_hits_total", "limit, verdict", ALL),
                    "{{limit}} {{verdict}}",
                ),
            )
        )
        .with_panel(
            timeline(
                "Backend of the limits",
                "Whether it answers every worker of a callout. Missing if the budgets are in the "
                "worker.",
                (f"sluice_limit_backend_up{{{ALL}}}", "{{instance}}"),
                {"0": ("down", RED), "1": ("up", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Exchanges with the backend",
                "waited: requests that waited for an exchange. fallback: decided without the "
                "backend.",
                "ops",
                (rate("sluice_limit_backend_events_total", "event", ALL), "{{event}}"),
            )
        )
        .with_panel(
            graph(
                "Evicted budgets",
                "Budgets over limits.backend.max_keys that were not full. They start again.",
                "ops",
                (rate("sluice_limit_evictions_total", "instance", ALL), "{{instance}}"),
            )
        )
        .with_panel(
            graph(
                "Refused because a bound of the gateway is reached",
                "Bodies without memory or a thread, by the callout; connections over "
                "envoy.max_connections, by Envoy.",
                "ops",
                (rate("sluice_memory_refused_total", "", ALL), "memory"),
                (rate("sluice_conversions_rejected_total", "", ALL), "conversions"),
                (rate("envoy_listener_downstream_global_cx_overflow", "", ALL), "connections"),
            )
        )
        .with_row(Row("Breakers"))
        .with_panel(
            timeline(
                "State of breakers",
                "reduced: a share of the requests is admitted. open: only probes.",
                (f"max by (model, version) (sluice_breaker_state{{{MODEL}}})", NAMES),
                BREAKERS,
            )
        )
        .with_panel(
            graph(
                "Failures in the window of the breaker",
                "Absent below min_volume.",
                "percentunit",
                (f"max by (model, version) (sluice_breaker_error_ratio{{{MODEL}}})", NAMES),
                most=1,
                steps=[(0.1, YELLOW), (0.3, RED)],
            )
        )
        .with_panel(
            graph(
                "Requests refused by breakers",
                "Status 503, breaker_open.",
                "reqps",
                (
                    rate(
                        "sluice_requests_total",
                        "model, version",
                        f'{MODEL}, reason="breaker_open"',
                    ),
                    NAMES,
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Requests in the window of the breaker",
                "A breaker says nothing below min_volume.",
                "short",
                (f"max by (model, version) (sluice_breaker_requests{{{MODEL}}})", NAMES),
            )
        )
    )
