"""Models and their versions: requests, failures, times, endpoints, copies."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.source.panels import (
    ALL,
    MODEL,
    choice,
    dashboard,
    graph,
    linked,
    models,
    quantile,
    quantiles,
    rate,
    ratio,
)

VERSION = f'{MODEL}, version=~"$version"'
CLUSTER = f'{ALL}, envoy_cluster_name=~"$model/$version"'
BY = "model, version"
NAMES = "{{model}}/{{version}}"


def board() -> Dashboard:
    """What the versions of a model do."""
    requests = rate("sluice_requests_total", BY, VERSION)
    return (
        dashboard(
            "models",
            "Models and versions",
            "Requests, failures and times of models and their versions, and their endpoints.",
            models(),
            choice(
                "version",
                "Version",
                f"sluice_requests_total{{{MODEL}}}",
                "version",
            ),
        )
        .with_panel(
            linked(
                graph(
                    "Requests by version",
                    "Finished requests. Without a version: refused before one was chosen.",
                    "reqps",
                    (requests, NAMES),
                    stacked=True,
                ),
                "The canary of the model",
                "canaries",
                "model",
            )
        )
        .with_panel(
            graph(
                "Why the version was chosen, or the request refused",
                "The reason of each request (docs/reference/errors.md).",
                "reqps",
                (rate("sluice_requests_total", "reason", VERSION), "{{reason}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Failures by version",
                "Share of the requests with a status 5xx.",
                "percentunit",
                (
                    ratio(rate("sluice_requests_total", BY, f'{VERSION}, status="5xx"'), requests),
                    NAMES,
                ),
            )
        )
        .with_panel(
            graph(
                "Failures by reason",
                "Requests with a status 5xx. model_…, no_healthy_endpoint and idle_timeout are the "
                "model server's.",
                "reqps",
                (
                    rate("sluice_requests_total", f"{BY}, reason", f'{VERSION}, status="5xx"'),
                    NAMES + " {{reason}}",
                ),
                stacked=True,
            )
        )
        .with_row(Row("Time"))
        .with_panel(
            graph(
                "Time of requests",
                "From the first byte of the request to the last of the response.",
                "s",
                *quantiles("sluice_request_seconds", BY, VERSION, NAMES),
            )
        )
        .with_panel(
            graph(
                "Time of the model server",
                "From the last byte sent to it to the first byte of its response.",
                "s",
                *quantiles("sluice_upstream_seconds", BY, VERSION, NAMES),
            )
        )
        .with_panel(
            graph(
                "Time outside the model server, p99 and mean",
                "The mean time of requests without that of the model server: transfer, decision, "
                "conversion. p99: of all requests.",
                "s",
                (
                    f"({rate('sluice_request_seconds_sum', BY, VERSION)}"
                    f" - {rate('sluice_upstream_seconds_sum', BY, VERSION)})"
                    f" / ({rate('sluice_request_seconds_count', BY, VERSION)} > 0)",
                    NAMES + " mean",
                ),
                (quantile(0.99, "sluice_request_seconds", BY, VERSION), NAMES + " p99 in all"),
            )
        )
        .with_panel(
            graph(
                "Requests in flight at model servers",
                "Of all Envoys.",
                "short",
                (
                    f"sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_active{{{CLUSTER}}})",
                    "{{envoy_cluster_name}}",
                ),
            )
        )
        .with_row(Row("Endpoints"))
        .with_panel(
            graph(
                "Healthy endpoints",
                "The least that an Envoy sees.",
                "short",
                (
                    f"min by (envoy_cluster_name) (envoy_cluster_membership_healthy{{{CLUSTER}}})",
                    "{{envoy_cluster_name}} healthy",
                ),
                (
                    f"max by (envoy_cluster_name) (envoy_cluster_membership_total{{{CLUSTER}}})",
                    "{{envoy_cluster_name}} in all",
                ),
            )
        )
        .with_panel(
            graph(
                "Retries and failed connections",
                "Requests that Envoy repeated, and connections that could not be opened.",
                "ops",
                (
                    rate("envoy_cluster_upstream_rq_retry", "envoy_cluster_name", CLUSTER),
                    "{{envoy_cluster_name}} retries",
                ),
                (
                    rate("envoy_cluster_upstream_cx_connect_fail", "envoy_cluster_name", CLUSTER),
                    "{{envoy_cluster_name}} connections",
                ),
            )
        )
        .with_panel(
            graph(
                "Attempts that failed, as Envoys report",
                "Share of the attempts, also those that Envoy repeated, and gRPC calls with an "
                "error status. Of all control planes.",
                "percentunit",
                (
                    ratio(
                        rate("sluice_xds_upstream_errors_total", BY, VERSION),
                        rate("sluice_xds_upstream_requests_total", BY, VERSION),
                    ),
                    NAMES,
                ),
            )
        )
        .with_panel(
            graph(
                "Copies of requests",
                "Mirrored requests by the comparison of the answers.",
                "reqps",
                (rate("sluice_copies_total", f"{BY}, result", VERSION), NAMES + " {{result}}"),
                stacked=True,
            )
        )
    )
