"""Config keys whose change takes effect at the next start of the gateway's processes."""

from collections.abc import Sequence
from typing import Final, TypeVar

from pydantic import BaseModel

from sluice.config import GatewayConfig
from sluice.config.gateway import Envoy
from sluice.config.video import VideoService

_OF_VIDEO: Final = tuple(
    f"video.{field}"
    for field in VideoService.model_fields
    if field not in ("gateway", "max_uploads", "max_watchers")
)
"""Keys of the video service. A service that is new in the config has no processes yet."""

RESTART_KEYS: Final = (
    "identity",
    "control_plane.http",
    "control_plane.allowed_hosts",
    "control_plane.xds",
    "control_plane.replicas",
    "control_plane.allow_insecure",
    "control_plane.ack_timeout",
    *(f"envoy.{field}" for field in Envoy.model_fields if field != "runtime"),
    "callout.address",
    "callout.allow_insecure",
    "callout.workers",
    "callout.drain_timeout",
    "callout.hang_timeout",
    "callout.max_memory",
    "callout.copies",
    "telemetry.metrics",
    "telemetry.profile",
    "istio.mcp",
    *_OF_VIDEO,
)

Section = TypeVar("Section", bound=BaseModel)


def restart_required(config: GatewayConfig, started: GatewayConfig) -> tuple[str, ...]:
    """The keys that differ from the config that the processes were started with."""
    return tuple(
        key
        for key in RESTART_KEYS
        if _is_kept(key, config, started) and _value(config, key) != _value(started, key)
    )


def with_started_values(config: GatewayConfig, started: GatewayConfig) -> GatewayConfig:
    """The config, but `RESTART_KEYS` have the values that the processes were started with."""
    for key in RESTART_KEYS:
        if _is_kept(key, config, started):
            config = _replaced(config, key.split("."), _value(started, key))
    return config


def _is_kept(key: str, config: GatewayConfig, started: GatewayConfig) -> bool:
    return key not in _OF_VIDEO or not (config.video is None or started.video is None)


def _value(config: GatewayConfig, key: str) -> object:
    """The value of a key; None without its section."""
    found: object = config
    for part in key.split("."):
        found = None if found is None else getattr(found, part)
    return found


def _replaced(section: Section, path: Sequence[str], value: object) -> Section:
    first, *rest = path
    if rest:
        inner = getattr(section, first)
        value = None if inner is None else _replaced(inner, rest, value)
    return section.model_copy(update={first: value})
