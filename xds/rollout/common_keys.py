"""The snapshot to return to when a node rejects renewed key sets: with the keys that both have."""

from dataclasses import replace

from sluice.contract.names import JWT_FILTER
from xds.protocol.resource_types import EXTENSION
from xds.protocol.snapshot import ResourceSet, Snapshot, Variant
from xds.resources.extensions import common_filter


def with_common_keys(good: Snapshot, rejected: Snapshot) -> Snapshot:
    """The good snapshot, whose filter verifies only the tokens that the rejected one verifies too.

    So no key comes back that the rejected key sets have revoked.
    """
    variants = {
        name: Variant.built(_narrowed(variant.snapshot, rejected.of_variant(name)))
        for name, variant in good.variants.items()
        if variant.is_built
    }
    return replace(
        _narrowed(good, rejected),
        variants={**good.variants, **variants},
        variant_of=good.variant_of,
    )


def _narrowed(good: Snapshot, rejected: Snapshot) -> Snapshot:
    old, new = (each.types[EXTENSION].resources.get(JWT_FILTER) for each in (good, rejected))
    if old is None or new is None or old.version == new.version:
        return good
    filters = {**good.types[EXTENSION].resources, JWT_FILTER: common_filter(old, new)}
    return good.with_types({EXTENSION: ResourceSet.of(filters, f"{good.version}-common")})
