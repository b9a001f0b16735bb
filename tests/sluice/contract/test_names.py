"""Names that callout and control plane read back."""

import pytest

from sluice.contract.names import (
    Placement,
    cluster_name,
    native_model_key,
    native_route_name,
    native_version_key,
    split_route_name,
    video_route_name,
)


@pytest.mark.parametrize(
    ("route", "model", "placement"),
    [
        ("m", "m", "callout"),
        (native_route_name("m"), "m", "native"),
        (video_route_name("m"), "m", "callout"),
        ("native", "native", "callout"),
        ("video", "video", "callout"),
    ],
)
def test_a_route_name_has_the_model_and_the_placement(
    route: str, model: str, placement: Placement
) -> None:
    assert split_route_name(route) == (model, placement)


def test_the_runtime_keys_of_a_model_and_of_its_versions_differ() -> None:
    keys = {native_version_key("d", cluster_name("m", version)) for version in ("m", "v1")}
    assert len(keys | {native_model_key("d", "m"), native_model_key("e", "m")}) == 4
