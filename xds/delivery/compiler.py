"""Compiles configs with the present key sets and endpoints, one after the other."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sluice.config import GatewayConfig
from sluice.config.checked import LoadedConfig
from sluice.keys.key_set import KeySet
from xds.istio.served import with_istio
from xds.resources.compiled import CompiledConfig, compile_config
from xds.resources.found_endpoints import FoundEndpoints
from xds.sources.endpoints.discovered import DiscoveredEndpoints, endpoints_of
from xds.sources.key_sets import FetchedKeySets
from xds.sources.source import unexpected_error


@dataclass(frozen=True, slots=True)
class _Compilation:
    """The latest compilation, and the key sets that it used."""

    compiled: CompiledConfig
    key_sets: Mapping[str, KeySet]

    def of(
        self, loaded: LoadedConfig, key_sets: Mapping[str, KeySet], found: FoundEndpoints
    ) -> CompiledConfig | None:
        """The compiled config, if it would be the same now."""
        known = self.compiled.loaded
        if known is None or known.policy is not loaded.policy or self.key_sets != key_sets:
            return None
        if self.compiled.found != found:
            return None
        return replace(self.compiled, loaded=loaded)


class Compiler:
    """Compiles configs. `name` is that of the config source, and `started` the first config."""

    def __init__(
        self,
        name: str,
        started: GatewayConfig,
        key_sets: FetchedKeySets,
        endpoints: DiscoveredEndpoints,
    ) -> None:
        self._name = name
        self._started = started
        self._key_sets = key_sets
        self._endpoints = endpoints
        self._turn = asyncio.Lock()
        self._latest: _Compilation | None = None

    async def compile(
        self, loaded: LoadedConfig, *, ask: bool = True, dry_run: bool = False
    ) -> CompiledConfig:
        """Compile a config, in a thread. Only one compilation runs, beside dry runs.

        Any exception becomes a ConfigError: the config in force must stay.

        A config that was compiled just before, as a candidate, is not compiled again. `ask`:
        whether sources are asked for endpoints that are not known yet. `dry_run`: the config is not
        to be rolled out, so that no other waits for it, and nothing is kept for the next config.
        """
        if dry_run:
            return await self._compile(loaded, ask=ask, dry_run=True)
        async with self._turn:
            return await self._compile(loaded, ask=ask, dry_run=False)

    async def _compile(self, loaded: LoadedConfig, *, ask: bool, dry_run: bool) -> CompiledConfig:
        endpoints = endpoints_of(await self._endpoints.find(loaded.config, ask=ask))
        return await asyncio.to_thread(self._in_thread, loaded, endpoints, dry_run=dry_run)

    def _in_thread(
        self, loaded: LoadedConfig, found: FoundEndpoints, *, dry_run: bool
    ) -> CompiledConfig:
        try:
            key_sets = self._key_sets.usable(loaded.config.auth.issuers)
            known = None if self._latest is None else self._latest.of(loaded, key_sets, found)
            compiled = known or with_istio(
                compile_config(loaded, self._started, key_sets, found, keep=not dry_run)
            )
        except Exception as error:
            raise unexpected_error(self._name, error) from None
        if not dry_run:
            self._latest = _Compilation(compiled, key_sets)
        return compiled
