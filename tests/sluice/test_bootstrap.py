"""The bootstrap of an Envoy has bounds that the Envoy's machine can keep."""

import pytest
import yaml

from sluice.bootstrap import max_connections, render
from sluice.config import GatewayConfig

CONFIG = GatewayConfig.model_validate({"envoy": {"max_connections": 1000, "max_heap": "100MiB"}})


@pytest.mark.parametrize(
    ("max_files", "expected"), [(1, 1), (512, 256), (2000, 1000), (9000, 1000)]
)
def test_clients_get_at_most_half_of_the_files(max_files: int, expected: int) -> None:
    assert max_connections(CONFIG, max_files) == expected


@pytest.mark.parametrize(("connections", "expected"), [(None, 1000), (7, 7)])
def test_the_bootstrap_limits_connections_and_memory(
    connections: int | None, expected: int
) -> None:
    bootstrap = yaml.safe_load(render(CONFIG, connections=connections))
    monitors = bootstrap["overload_manager"]["resource_monitors"]
    limits = {key: value for each in monitors for key, value in each["typed_config"].items()}
    assert limits["max_active_downstream_connections"] == expected
    assert limits["max_heap_size_bytes"] == 100 << 20
