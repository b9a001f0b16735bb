"""One model: its canary beside its other versions."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.source.panels import (
    ALL,
    RED,
    YELLOW,
    choice,
    dashboard,
    graph,
    quantile,
    rate,
    ratio,
)

MODEL = f'{ALL}, model="$model"'
CHOSEN = f'{MODEL}, version!=""'
VERSION = "{{version}}"


def board() -> Dashboard:
    """What speaks for a canary, and against it."""
    requests = rate("sluice_requests_total", "version", CHOSEN)
    total = rate("sluice_requests_total", "", CHOSEN)
    copies = rate("sluice_copies_total", "version", MODEL)
    return (
        dashboard(
            "canaries",
            "Canary comparison",
            "The canary of a model beside its other versions: share, failures, times, agreement.",
            choice("model", "Model", f"sluice_xds_canary_percent{{{ALL}}}", "model", many=False),
        )
        .with_panel(
            graph(
                "Percentage of the canary",
                "Users that get the canary, in the latest config.",
                "percent",
                (f"max by (version) (sluice_xds_canary_percent{{{MODEL}}})", VERSION),
                most=100,
            )
        )
        .with_panel(
            graph(
                "Share of the requests",
                "It differs from the percentage if users send different numbers of requests, or "
                "choose a version.",
                "percentunit",
                (f"({requests}) / ignoring (version) group_left () (({total}) > 0)", VERSION),
                stacked=True,
                most=1,
            )
        )
        .with_panel(
            graph(
                "Failures",
                "Share of the requests of a version with a status 5xx.",
                "percentunit",
                (
                    ratio(
                        rate("sluice_requests_total", "version", f'{CHOSEN}, status="5xx"'),
                        requests,
                    ),
                    VERSION,
                ),
                steps=[(0.01, YELLOW), (0.1, RED)],
            )
        )
        .with_panel(
            graph(
                "Failures that the breaker counts",
                "Share in the window of the breaker: gRPC errors count too. Absent below "
                "min_volume.",
                "percentunit",
                (f"max by (version) (sluice_breaker_error_ratio{{{MODEL}}})", VERSION),
            )
        )
        .with_panel(
            graph(
                "Time of the model server, median and p99",
                "From the last byte sent to it to the first byte of its response: what the "
                "criteria of steps judge.",
                "s",
                (quantile(0.5, "sluice_upstream_seconds", "version", CHOSEN), VERSION + " p50"),
                (quantile(0.99, "sluice_upstream_seconds", "version", CHOSEN), VERSION + " p99"),
            )
        )
        .with_panel(
            graph(
                "Time of requests, median and p99",
                "From the first byte of the request to the last of the response.",
                "s",
                (quantile(0.5, "sluice_request_seconds", "version", CHOSEN), VERSION + " p50"),
                (quantile(0.99, "sluice_request_seconds", "version", CHOSEN), VERSION + " p99"),
            )
        )
        .with_panel(
            graph(
                "Why a version was chosen",
                "canary_…: by the rules of the canary. Refusals have no version and are not here.",
                "reqps",
                (
                    rate("sluice_requests_total", "version, reason", CHOSEN),
                    "{{version}} {{reason}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Agreement of copies",
                "Share of the compared copies whose answers agree.",
                "percentunit",
                (
                    ratio(
                        rate("sluice_copies_total", "version", f'{MODEL}, result="agreed"'), copies
                    ),
                    VERSION,
                ),
                most=1,
            )
        )
        .with_panel(
            graph(
                "Decisions about canaries",
                "Of the control planes, in an hour: set (a step), promote, abort, hold. Of all "
                "models.",
                "short",
                (
                    f"sum by (decision) (increase(sluice_xds_canary_decisions_total{{{ALL}}}[1h]))",
                    "{{decision}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Breaker of each version",
                "0 closed, 1 reduced, 2 open.",
                "short",
                (f"max by (version) (sluice_breaker_state{{{MODEL}}})", VERSION),
                most=2,
            )
        )
    )
