"""The video service: streams of cameras, uploads, their frames, sinks and workers."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.source.panels import (
    ALL,
    GREEN,
    RED,
    YELLOW,
    choice,
    cpu_of_workers,
    dashboard,
    graph,
    memory_of_workers,
    quantile,
    quantiles,
    rate,
    ratio,
    stat,
    timeline,
)

STREAM = f'{ALL}, stream=~"$stream"'
"""Selects the streams that the variable chooses. Uploads have no name, and are in All."""

NAMES = "{{model}} {{stream}}"
SAMPLED = f'{STREAM}, outcome=~"result|drop|error"'
FRAMES = "sluice_video_frames_total"


def board() -> Dashboard:
    """Whether frames become events in time, and where they are lost."""
    sampled = rate(FRAMES, "stream, model", SAMPLED)
    return (
        dashboard(
            "video",
            "Video",
            "Whether the frames of cameras and uploads become events in time.",
            choice("stream", "Stream", f"{FRAMES}{{{ALL}}}", "stream"),
        )
        .with_panel(
            stat(
                "Results",
                "Frames with a result, a second.",
                "ops",
                rate(FRAMES, "", f'{STREAM}, outcome="result"'),
                "results",
            )
        )
        .with_panel(
            stat(
                "Drops",
                "Share of the sampled frames without a request.",
                "percentunit",
                ratio(rate(FRAMES, "", f'{STREAM}, outcome="drop"'), rate(FRAMES, "", SAMPLED)),
                "drops",
                steps=[(0.01, YELLOW), (0.1, RED)],
            )
        )
        .with_panel(
            stat(
                "Errors",
                "Share of the sampled frames whose request failed.",
                "percentunit",
                ratio(rate(FRAMES, "", f'{STREAM}, outcome="error"'), rate(FRAMES, "", SAMPLED)),
                "errors",
                steps=[(0.001, YELLOW), (0.05, RED)],
            )
        )
        .with_panel(
            stat(
                "p99",
                "99 % of the frames become events in this time.",
                "s",
                quantile(0.99, "sluice_video_frame_seconds", "", STREAM),
                "p99",
                steps=[(0.145, YELLOW), (1, RED)],
            )
        )
        .with_panel(
            stat(
                "Streams down",
                "Streams of cameras that deliver no frames.",
                "short",
                f"sum(1 - max by (stream) (sluice_video_stream_up{{{STREAM}}}))",
                "streams",
                steps=[(1, RED)],
            )
        )
        .with_panel(
            stat(
                "Uploads",
                "Uploads that are open.",
                "short",
                f"sum(sluice_video_open_uploads{{{ALL}}})",
                "uploads",
            )
        )
        .with_row(Row("Frames"))
        .with_panel(
            graph(
                "Results by stream",
                "Frames with a result. A stream without a name: the uploads for the model.",
                "ops",
                (rate(FRAMES, "stream, model", f'{STREAM}, outcome="result"'), NAMES),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "From the frame to its event",
                "For an upload that waits for the model, from the moment at which the frame "
                "gets a slot.",
                "s",
                *quantiles("sluice_video_frame_seconds", "stream, model", STREAM, NAMES),
                steps=[(1, RED)],
            )
        )
        .with_panel(
            graph(
                "What happens to frames",
                "skipped: not sampled. drop and error: by reason, beside.",
                "ops",
                (rate(FRAMES, "outcome", STREAM), "{{outcome}}"),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Drops and errors by reason",
                "docs/reference/errors.md explains the reasons.",
                "ops",
                (
                    rate(
                        FRAMES,
                        "outcome, reason, stream",
                        f'{STREAM}, outcome=~"drop|error"',
                    ),
                    "{{outcome}} {{reason}} {{stream}}",
                ),
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Share of drops by stream",
                "Of the sampled frames.",
                "percentunit",
                (
                    ratio(rate(FRAMES, "stream, model", f'{STREAM}, outcome="drop"'), sampled),
                    NAMES,
                ),
                steps=[(0.1, RED)],
            )
        )
        .with_panel(
            graph(
                "Encoded bytes",
                "Received from cameras and clients.",
                "Bps",
                (rate("sluice_video_bytes_total", "stream, model", STREAM), NAMES),
                stacked=True,
            )
        )
        .with_row(Row("Cameras"))
        .with_panel(
            timeline(
                "Streams",
                "Whether the stream delivers frames.",
                (f"max by (stream) (sluice_video_stream_up{{{STREAM}}})", "{{stream}}"),
                {"0": ("down", RED), "1": ("up", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Reconnects",
                "In ten minutes.",
                "short",
                (
                    f"sum by (stream) (increase(sluice_video_reconnects_total{{{STREAM}}}[10m]))",
                    "{{stream}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Events that wait for sinks",
                "While the buffer of a sink is full, the frames of its stream are dropped.",
                "short",
                (
                    f"sum by (stream, sink) (sluice_video_sink_waiting{{{STREAM}}})",
                    "{{stream}} {{sink}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Events that sinks have confirmed",
                "Repeated events count once.",
                "ops",
                (
                    rate("sluice_video_sink_events_total", "stream, sink", STREAM),
                    "{{stream}} {{sink}}",
                ),
                stacked=True,
            )
        )
        .with_row(Row("Clients"))
        .with_panel(
            graph(
                "Open uploads and watchers",
                "Watchers: of the streams of cameras.",
                "short",
                (f"sum by (model) (sluice_video_open_uploads{{{ALL}}})", "uploads for {{model}}"),
                (f"sum(sluice_video_watchers{{{ALL}}})", "watchers"),
            )
        )
        .with_panel(
            graph(
                "Refused calls",
                "By the video service, in ten minutes. The gateway refuses others before.",
                "short",
                (
                    f"sum by (reason) (increase(sluice_video_refused_total{{{ALL}}}[10m]))",
                    "{{reason}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Uploads",
                "Uploads that have begun, in ten minutes.",
                "short",
                (
                    f"sum by (model) (increase(sluice_video_uploads_total{{{ALL}}}[10m]))",
                    "{{model}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Frames in flight",
                "Frames whose result is awaited: at most video.concurrency of the model for each "
                "stream and upload.",
                "short",
                (
                    f"sum by (stream, model) (sluice_video_frames_in_flight{{{STREAM}}})",
                    NAMES,
                ),
            )
        )
        .with_row(Row("Workers"))
        .with_panel(
            timeline(
                "Workers",
                "Whether the process runs and does not hang.",
                (f"sluice_video_worker_up{{{ALL}}}", "{{instance}} {{worker}}"),
                {"0": ("down", RED), "1": ("up", GREEN)},
            )
        )
        .with_panel(
            graph(
                "Starts and hangs",
                "In ten minutes. A restart ends the uploads of the worker.",
                "short",
                (
                    "sum by (instance, worker)"
                    f" (increase(sluice_video_worker_starts_total{{{ALL}}}[10m]))",
                    "{{instance}} {{worker}} starts",
                ),
                (
                    "sum by (instance, worker)"
                    f" (increase(sluice_video_worker_hangs_total{{{ALL}}}[10m]))",
                    "{{instance}} {{worker}} hangs",
                ),
            )
        )
        .with_panel(
            cpu_of_workers(
                "Cores that each worker uses, for decoders too.",
                "sluice_video_worker_cpu_seconds_total",
                ALL,
            )
        )
        .with_panel(memory_of_workers("sluice_video_worker_resident_bytes", ALL))
    )
