"""The callout's workers: processes, decisions, credentials, conversions, memory, access log."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.source.panels import (
    ALL,
    GREEN,
    INSTANCE,
    RED,
    YELLOW,
    cpu_of_workers,
    dashboard,
    graph,
    instances,
    memory_of_workers,
    quantile,
    quantiles,
    rate,
    ratio,
    timeline,
)


def board() -> Dashboard:
    """Whether workers decide in time."""
    tokens = rate("sluice_tokens_total", "", INSTANCE)
    return (
        dashboard(
            "workers",
            "Workers",
            "The callout's workers: processes, decisions, credentials, conversions, memory, log.",
            instances("sluice-callout"),
        )
        .with_row(Row("Processes"))
        .with_panel(
            timeline(
                "Workers",
                "Whether the process runs and does not hang.",
                (f"sluice_worker_up{{{INSTANCE}}}", "{{instance}} {{worker}}"),
                {"0": ("down", RED), "1": ("up", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Starts and hangs",
                "In ten minutes.",
                "short",
                (
                    "sum by (instance, worker)"
                    f" (increase(sluice_worker_starts_total{{{INSTANCE}}}[10m]))",
                    "{{instance}} {{worker}} starts",
                ),
                (
                    "sum by (instance, worker)"
                    f" (increase(sluice_worker_hangs_total{{{INSTANCE}}}[10m]))",
                    "{{instance}} {{worker}} hangs",
                ),
            )
        )
        .with_panel(
            graph(
                "Silence",
                "Time since the latest heartbeat of the event loop: requests wait meanwhile.",
                "s",
                (f"sluice_worker_silence_seconds{{{INSTANCE}}}", "{{instance}} {{worker}}"),
                steps=[(1, YELLOW), (2, RED)],
            )
        )
        .with_panel(
            graph(
                "Memory of bodies",
                "Bytes of requests and responses that all workers hold, and the limit "
                "(callout.max_memory).",
                "bytes",
                (f"sluice_memory_used_bytes{{{INSTANCE}}}", "{{instance}} used"),
                (f"sluice_memory_limit_bytes{{{INSTANCE}}}", "{{instance}} limit"),
            )
        )
        .with_panel(
            cpu_of_workers(
                "Cores that each worker uses. Its event loop uses one at most, conversion threads "
                "others. Near one without conversions, more workers are needed.",
                "sluice_worker_cpu_seconds_total",
                INSTANCE,
            )
        )
        .with_panel(memory_of_workers("sluice_worker_resident_bytes", INSTANCE))
        .with_row(Row("Decisions"))
        .with_panel(
            graph(
                "Decisions",
                "By verdict and reason, also admissions by Envoy alone.",
                "reqps",
                (
                    rate("sluice_decisions_total", "verdict, reason", INSTANCE),
                    "{{verdict}} {{reason}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Duration of decisions",
                "Without the transport and without hits of the admission cache.",
                "s",
                *quantiles("sluice_decision_seconds", "verdict", INSTANCE, "{{verdict}}"),
            )
        )
        .with_panel(
            graph(
                "Duration of stages, p99",
                "Of one decision in 64.",
                "s",
                (quantile(0.99, "sluice_decision_stage_seconds", "stage", INSTANCE), "{{stage}}"),
            )
        )
        .with_panel(
            graph(
                "Caches",
                "Share of verified tokens that were known, and hits of the admission cache for "
                "each decision.",
                "percentunit",
                (
                    ratio(rate("sluice_tokens_total", "", f'{INSTANCE}, cache="hit"'), tokens),
                    "tokens",
                ),
                (
                    ratio(
                        rate("sluice_admission_cache_hits_total", "", INSTANCE),
                        rate("sluice_decisions_total", "", INSTANCE),
                    ),
                    "admissions",
                ),
            )
        )
        .with_panel(
            graph(
                "Refused credentials",
                "By cause (docs/reference/errors.md).",
                "reqps",
                (rate("sluice_credentials_refused_total", "cause", INSTANCE), "{{cause}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Age of key sets",
                "Since the latest fetch, of the worker with the oldest. Missing for key sets of "
                "files.",
                "s",
                (f"max by (issuer) (sluice_jwks_age_seconds{{{INSTANCE}}})", "{{issuer}}"),
            )
        )
        .with_row(Row("Transport"))
        .with_panel(
            graph(
                "Calls",
                "gRPC calls of Envoys. deadline_exceeded and refused should be 0.",
                "ops",
                (rate("sluice_transport_calls_total", "event", INSTANCE), "{{event}}"),
            )
        )
        .with_panel(
            graph(
                "Timeouts of Envoy",
                "Answers of workers that Envoy did not get within callout.message_timeout, and "
                "calls that failed.",
                "ops",
                (
                    rate("envoy_http_ext_proc_callout_message_timeouts", "instance", ALL),
                    "{{instance}} timeouts",
                ),
                (
                    rate("envoy_http_ext_proc_callout_streams_failed", "instance", ALL),
                    "{{instance}} failures",
                ),
            )
        )
        .with_row(Row("Conversions"))
        .with_panel(
            graph(
                "Conversions",
                "By converter and result. refused: the body is not valid.",
                "ops",
                (
                    rate("sluice_conversions_total", "converter, result", INSTANCE),
                    "{{converter}} {{result}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Duration of conversions",
                "work: the conversion. wait: for a thread.",
                "s",
                (
                    quantile(0.5, "sluice_conversion_seconds", "converter, phase", INSTANCE),
                    "{{converter}} {{phase}} p50",
                ),
                (
                    quantile(0.99, "sluice_conversion_seconds", "converter, phase", INSTANCE),
                    "{{converter}} {{phase}} p99",
                ),
            )
        )
        .with_panel(
            graph(
                "Conversions that run or wait",
                "If it stays high, more cores are needed.",
                "short",
                (f"sluice_conversions_pending{{{INSTANCE}}}", "{{instance}}"),
            )
        )
        .with_panel(
            graph(
                "Bytes of conversions",
                "Before and after.",
                "Bps",
                (
                    rate("sluice_conversion_bytes_total", "converter, side", INSTANCE),
                    "{{converter}} {{side}}",
                ),
            )
        )
        .with_row(Row("Access log"))
        .with_panel(
            graph(
                "Lines",
                "Written, and lost by cause.",
                "ops",
                (rate("sluice_log_lines_total", "", INSTANCE), "written"),
                (rate("sluice_log_dropped_total", "cause", INSTANCE), "lost: {{cause}}"),
            )
        )
        .with_panel(
            graph(
                "Lines that wait",
                "Bytes in the queues of all workers (access_log.queue is the bound of each).",
                "bytes",
                (f"sluice_log_queue_bytes{{{INSTANCE}}}", "{{instance}}"),
            )
        )
    )
