"""Hypothesis strategies for valid configs."""

from hypothesis import strategies as st

from sluice.config import GatewayConfig

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
# The servers of the gateway have ports between these.
ports = st.integers(1, 7999) | st.integers(20_000, 65535)
addresses = st.builds("{}:{}".format, st.sampled_from(["127.0.0.1", "[::1]", "model.svc"]), ports)
endpoints = st.builds(
    lambda address, weight: {"address": address, "weight": weight}, addresses, st.integers(1, 128)
)
versions = st.fixed_dictionaries(
    {"endpoints": st.lists(endpoints, min_size=1, max_size=3, unique_by=lambda e: e["address"])},
    optional={"protocol": st.sampled_from(["http", "grpc"]), "health_check": st.just({})},
)


@st.composite
def models(draw: st.DrawFn) -> dict[str, object]:
    served = draw(st.dictionaries(names, versions, min_size=1, max_size=3))
    order = list(served)
    share = st.integers(0, 10_000 // len(order)).map(lambda hundredths: hundredths / 100)
    return {
        "versions": served,
        "stable": order[0],
        "canaries": [{"version": name, "percent": draw(share)} for name in order[1:]],
        "timeout": draw(st.sampled_from(["250ms", "30s", "5m", 0, 1.5])),
    }


configs = st.dictionaries(names, models(), max_size=4).map(
    lambda chosen: GatewayConfig.model_validate({"models": chosen})
)
