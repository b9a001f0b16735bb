"""The table of resource types is consistent."""

from xds.protocol import resource_types


def test_urls_and_short_names_are_unique() -> None:
    assert len({each.url for each in resource_types.ALL}) == len(resource_types.ALL)
    assert len({each.name for each in resource_types.ALL}) == len(resource_types.ALL)


def test_a_type_is_pushed_after_the_type_that_it_waits_for() -> None:
    for position, each in enumerate(resource_types.ALL):
        if each.after_referrer:
            assert each.referrer in resource_types.ALL[:position]


def test_envoys_and_workers_get_no_resources_of_a_mesh() -> None:
    assert set(resource_types.BY_URL.values()).isdisjoint(resource_types.ISTIO)
