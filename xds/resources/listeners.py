"""All listeners of an Envoy, and a cache: their messages are slow, and few edits change them."""

from pathlib import Path
from typing import Final

from xds.protocol.snapshot import Resource, Resources
from xds.resources import mirror
from xds.resources.filters import copies_filters
from xds.resources.listener import listener
from xds.resources.listener_settings import ListenerSettings

MAX_KEPT: Final = 16
"""Settings whose listeners are kept: each node group may have its own."""

_Key = tuple[ListenerSettings, Path, bool, bool]


class ListenerCache:
    """The listeners that were used last."""

    def __init__(self) -> None:
        self._known: tuple[tuple[_Key, Resources], ...] = ()

    def resources(
        self,
        settings: ListenerSettings,
        directory: Path,
        *,
        answers_readiness: bool,
        awaits_clusters: bool = True,
        keep: bool = True,
    ) -> Resources:
        """The listeners, by name. `keep`: whether they replace those that were used longest ago.

        For the others, see `xds.resources.listener.listener`.
        """
        key = settings, directory, answers_readiness, awaits_clusters
        known = next((found for each, found in self._known if each == key), None)
        resources = _listeners(*key) if known is None else known
        if keep:
            others = [each for each in self._known if each[0] != key]
            self._known = ((key, resources), *others[: MAX_KEPT - 1])
        return resources


def _listeners(
    settings: ListenerSettings, directory: Path, answers_readiness: bool, awaits_clusters: bool
) -> Resources:
    found = [
        listener(
            settings,
            directory,
            answers_readiness=answers_readiness,
            awaits_clusters=awaits_clusters,
        )
    ]
    if settings.callout.copies is not None:
        found.append(mirror.copies_listener(settings.callout.copies, copies_filters(settings)))
    return {each.name: Resource.of(bytes(each)) for each in found}
