"""The gateway as a whole: what clients get, and whether all parts run."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.source.panels import (
    ALL,
    MODEL,
    RED,
    YELLOW,
    dashboard,
    graph,
    linked,
    models,
    quantile,
    quantiles,
    rate,
    ratio,
    stat,
)

CLIENTS = f'{ALL}, envoy_http_conn_manager_prefix="gateway"'


def board() -> Dashboard:
    """The dashboard to begin with."""
    by_model = rate("sluice_requests_total", "model", MODEL)
    failed_by_model = rate("sluice_requests_total", "model", f'{MODEL}, status="5xx"')
    every = rate("sluice_requests_total", "", MODEL)
    failed = rate("sluice_requests_total", "", f'{MODEL}, status="5xx"')
    return (
        dashboard(
            "overview",
            "Overview",
            "What clients of the gateway get, and whether all parts run.",
            models(),
        )
        .with_panel(stat("Requests", "Finished requests a second.", "reqps", every, "requests"))
        .with_panel(
            stat(
                "Failures",
                "Share of the requests with a status 5xx. The objective is 0.1 %.",
                "percentunit",
                ratio(failed, every),
                "failures",
                steps=[(0.001, YELLOW), (0.01, RED)],
            )
        )
        .with_panel(
            stat(
                "p99",
                "99 % of the requests take no longer.",
                "s",
                quantile(0.99, "sluice_request_seconds", "", MODEL),
                "p99",
                steps=[(1, YELLOW), (5, RED)],
            )
        )
        .with_panel(
            stat(
                "In flight",
                "Requests that Envoys are working on.",
                "short",
                f"sum(envoy_http_downstream_rq_active{{{CLIENTS}}})",
                "requests",
            )
        )
        .with_panel(
            stat(
                "Alerts",
                "Alerts of alerts.yml that fire. docs/alerts.md says what to do.",
                "short",
                'count(ALERTS{alertname=~"Sluice.*", alertstate="firing"}) or vector(0)',
                "alerts",
                steps=[(1, RED)],
            )
        )
        .with_panel(
            stat(
                "Config in force",
                "The version of each control plane; one, unless a change is on its way.",
                "short",
                f"max by (version) (sluice_xds_version_info{{{ALL}}})",
                "{{version}}",
                names=True,
            )
        )
        .with_row(Row("Requests"))
        .with_panel(
            graph(
                "Requests by status",
                "Finished requests. none: the client left before there was a response.",
                "reqps",
                (rate("sluice_requests_total", "status", MODEL), "{{status}}"),
                stacked=True,
            )
        )
        .with_panel(
            linked(
                graph(
                    "Requests by model",
                    "Finished requests; other is a path of no model.",
                    "reqps",
                    (by_model, "{{model}}"),
                    stacked=True,
                ),
                "The model and its versions",
                "models",
                "model",
            )
        )
        .with_panel(
            linked(
                graph(
                    "Failures by model",
                    "Share of the requests with a status 5xx.",
                    "percentunit",
                    (ratio(failed_by_model, by_model), "{{model}}"),
                ),
                "The model and its versions",
                "models",
                "model",
            )
        )
        .with_panel(
            graph(
                "Refusals and failures by reason",
                "Requests with a status 4xx or 5xx. docs/reference/errors.md explains the reasons.",
                "reqps",
                (
                    rate("sluice_requests_total", "reason", f'{MODEL}, status=~"4xx|5xx"'),
                    "{{reason}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Time of requests",
                "From the first byte of the request to the last of the response.",
                "s",
                *quantiles("sluice_request_seconds", "", MODEL, ""),
            )
        )
        .with_panel(
            graph(
                "Requests by placement",
                "native: Envoy admitted alone. callout: a worker decided. Empty: no decision.",
                "reqps",
                (
                    rate("sluice_requests_by_placement_total", "placement", MODEL),
                    "{{placement}}",
                ),
                stacked=True,
            )
        )
        .with_row(Row("Objectives"))
        .with_panel(
            graph(
                "Burn of the error budget",
                "1: the budget of a month (0.1 % of the requests) lasts a month. From 14.4, an "
                "alert fires.",
                "short",
                (f"model:sluice_errors:ratio_rate1h{{{MODEL}}} / 0.001", "{{model}}, 1 h"),
                (f"model:sluice_errors:ratio_rate6h{{{MODEL}}} / 0.001", "{{model}}, 6 h"),
            )
        )
        .with_panel(
            graph(
                "Burn of the latency budget",
                "1: the budget of a month (1 % of the requests over 1 s) lasts a month.",
                "short",
                (f"model:sluice_slow:ratio_rate1h{{{MODEL}}} / 0.01", "{{model}}, 1 h"),
                (f"model:sluice_slow:ratio_rate6h{{{MODEL}}} / 0.01", "{{model}}, 6 h"),
            )
        )
        .with_row(Row("Parts"))
        .with_panel(
            graph(
                "Processes",
                "Processes that Prometheus reaches, those of each version of the program, and "
                "workers that run.",
                "short",
                (f'sum by (job) (up{{{ALL}, job=~"envoy|sluice-.*"}})', "{{job}}"),
                (f"sum(sluice_worker_up{{{ALL}}})", "workers"),
                (
                    f"count by (job, version) (sluice_build_info{{{ALL}}})",
                    "{{job}} of version {{version}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Requests and connections in flight",
                "Of clients, at each Envoy.",
                "short",
                (
                    f"sum by (instance) (envoy_http_downstream_rq_active{{{CLIENTS}}})",
                    "{{instance}} requests",
                ),
                (
                    f"sum by (instance) (envoy_http_downstream_cx_active{{{CLIENTS}}})",
                    "{{instance}} connections",
                ),
            )
        )
        .with_panel(
            graph(
                "Heap of Envoy",
                "Share of envoy.max_heap. From 80 %, Envoy shortens timeouts; from 95 %, it "
                "refuses requests.",
                "percent",
                (
                    f"envoy_overload_envoy_resource_monitors_fixed_heap_pressure{{{ALL}}}",
                    "{{instance}}",
                ),
                most=100,
                steps=[(80, YELLOW), (95, RED)],
            )
        )
        .with_panel(
            graph(
                "Endpoints that are not healthy",
                "As the control plane sees them; missing if it can ask no Envoy.",
                "short",
                (
                    f'sum by (state) (sluice_xds_endpoints{{{ALL}, state!="healthy"}})',
                    "{{state}}",
                ),
                stacked=True,
            )
        )
    )
