"""The control plane: config, nodes, pushes, endpoints and reports of traffic."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.source.panels import (
    ALL,
    GREEN,
    INSTANCE,
    RED,
    YELLOW,
    dashboard,
    graph,
    instances,
    rate,
    stat,
    timeline,
)


def board() -> Dashboard:
    """Whether config changes reach the nodes."""
    return (
        dashboard(
            "control-plane",
            "Control plane",
            "Whether config changes reach Envoys and workers, and what the control plane knows.",
            instances("sluice-control-plane"),
        )
        .with_panel(
            stat(
                "Config in force",
                "The version of each control plane.",
                "short",
                f"max by (version) (sluice_xds_version_info{{{INSTANCE}}})",
                "{{version}}",
                names=True,
            )
        )
        .with_panel(
            stat(
                "Age of the config",
                "Since the latest valid config was read.",
                "s",
                f"time() - max(sluice_xds_config_timestamp_seconds{{{INSTANCE}}})",
                "age",
            )
        )
        .with_panel(
            stat(
                "Latest config",
                "error: the latest change is not in force; sluice status has the reason.",
                "short",
                f"max(sluice_xds_in_error{{{INSTANCE}}})",
                "state",
                words={"0": ("in force", GREEN), "1": ("error", RED)},
            )
        )
        .with_panel(
            stat(
                "Nodes",
                "moving: a rollout runs, or a node does not have the version in force.",
                "short",
                f"min(sluice_xds_in_sync{{{INSTANCE}}})",
                "state",
                words={"0": ("moving", YELLOW), "1": ("in sync", GREEN)},
            )
        )
        .with_panel(
            stat(
                "Models",
                "Models in the config.",
                "short",
                f"max(sluice_xds_models{{{INSTANCE}}})",
                "models",
            )
        )
        .with_panel(
            stat(
                "Rejected",
                "NACKs of nodes in an hour.",
                "short",
                f"sum(increase(sluice_xds_nacks_total{{{INSTANCE}}}[1h]))",
                "NACKs",
                steps=[(1, RED)],
            )
        )
        .with_row(Row("Changes"))
        .with_panel(
            timeline(
                "In sync",
                "Whether every node has the config in force and no rollout runs.",
                (f"sluice_xds_in_sync{{{INSTANCE}}}", "{{instance}}"),
                {"0": ("moving", YELLOW), "1": ("in sync", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Configs read",
                "In ten minutes. refused: not valid.",
                "short",
                (
                    f"sum by (result) (increase(sluice_xds_config_reads_total{{{INSTANCE}}}[10m]))",
                    "{{result}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Pushes by type",
                "Responses to nodes.",
                "ops",
                (rate("sluice_xds_pushes_total", "type", INSTANCE), "{{type}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Answers of nodes",
                "ACKs by type, and all NACKs.",
                "ops",
                (rate("sluice_xds_acks_total", "type", INSTANCE), "{{type}}"),
                (rate("sluice_xds_nacks_total", "", INSTANCE), "NACK"),
            )
        )
        .with_panel(
            graph(
                "Pushed bytes by type",
                "A change of many models is large.",
                "Bps",
                (rate("sluice_xds_pushed_bytes_total", "type", INSTANCE), "{{type}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Percentages of canaries",
                "In the latest config.",
                "percent",
                (
                    f"max by (model, version) (sluice_xds_canary_percent{{{INSTANCE}}})",
                    "{{model}}/{{version}}",
                ),
                most=100,
            )
        )
        .with_row(Row("Nodes"))
        .with_panel(
            graph(
                "Connected nodes",
                "Of all control planes.",
                "short",
                (f"sum by (kind) (sluice_xds_nodes{{{INSTANCE}}})", "{{kind}}"),
            )
        )
        .with_panel(
            timeline(
                "Envoys that are connected",
                "As each Envoy says. Without a connection, it keeps its config.",
                (f'envoy_control_plane_connected_state{{{ALL}, job="envoy"}}', "{{instance}}"),
                {"0": ("no", RED), "1": ("yes", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Endpoints by state",
                "As the Envoys that were asked see them.",
                "short",
                (f"sum by (state) (sluice_xds_endpoints{{{INSTANCE}}})", "{{state}}"),
                stacked=True,
            )
        )
        .with_panel(
            timeline(
                "Envoys that answer",
                "Those that the control plane asks for endpoints (control_plane.envoys).",
                (f"sluice_xds_envoy_answers{{{INSTANCE}}}", "{{source}}"),
                {"0": ("no", RED), "1": ("yes", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Age of reports of traffic",
                "Of the Envoy or worker that is behind most. Nothing is judged while it is high.",
                "s",
                (
                    f"max by (source) (sluice_xds_report_age_seconds{{{INSTANCE}}})",
                    "{{source}}",
                ),
                steps=[(8, YELLOW), (30, RED)],
            )
        )
        .with_panel(
            graph(
                "Reporters of traffic, and refused reports",
                "Envoys and workers that report; streams ended because of what a client sent.",
                "short",
                (f"sum by (source) (sluice_xds_reporters{{{INSTANCE}}})", "{{source}}"),
                (
                    "sum by (source)"
                    f" (increase(sluice_xds_reports_refused_total{{{INSTANCE}}}[10m]))",
                    "{{source}} refused",
                ),
            )
        )
    )
