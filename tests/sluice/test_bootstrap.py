"""The bootstrap of an Envoy has bounds that the Envoy's machine can keep."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.bootstrap import max_connections, render, write_sds_files
from sluice.config import GatewayConfig
from sluice.contract.names import RUNTIME_CLUSTER

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


@pytest.mark.parametrize(
    ("callout", "expected"),
    [
        (
            {"address": "unix:/run/callout", "workers": 2},
            ["/run/callout-0", "/run/callout-1"],
        ),
        ({"address": "10.0.0.9:7000", "workers": 2}, ["10.0.0.9:7000", "10.0.0.9:7001"]),
        ({"address": "localhost:7000", "workers": 1}, ["127.0.0.1:7000", "::1:7000"]),
        ({"address": "callout.internal:7000", "workers": 1}, ["callout.internal:7000"]),
    ],
)
def test_the_runtime_layer_comes_from_every_worker_of_the_callout(
    callout: dict[str, object], expected: list[str]
) -> None:
    config = GatewayConfig.model_validate({"callout": {"allow_insecure": True, **callout}})
    bootstrap = yaml.safe_load(render(config))
    *_, layer = bootstrap["layered_runtime"]["layers"]
    (service,) = layer["rtds_layer"]["rtds_config"]["api_config_source"]["grpc_services"]
    (cluster,) = (
        each
        for each in bootstrap["static_resources"]["clusters"]
        if each["name"] == service["envoy_grpc"]["cluster_name"]
    )
    (locality,) = cluster["load_assignment"]["endpoints"]
    found = []
    for endpoint in (each["endpoint"] for each in locality["lb_endpoints"]):
        more = [each["address"] for each in endpoint.get("additional_addresses", [])]
        found += [_text(each) for each in (endpoint["address"], *more)]
    assert found == expected
    assert cluster["type"] == ("STRICT_DNS" if "internal" in expected[0] else "STATIC")


IDENTITY = {
    "ca": "ca.crt",
    "control_plane": {"certificate": "cp.crt", "private_key": "cp.key"},
    "callout": {"certificate": "callout.crt", "private_key": "callout.key"},
    "envoy": {"certificate": "envoy.crt", "private_key": "envoy.key"},
}


def clusters(config: GatewayConfig, directory: Path) -> dict[str, Any]:
    found = yaml.safe_load(render(config, directory=directory))["static_resources"]["clusters"]
    return {each["name"]: each for each in found}


def test_an_envoy_with_certificates_knows_its_servers_and_watches_its_files(tmp_path: Path) -> None:
    config = GatewayConfig.model_validate({"identity": IDENTITY})
    written = write_sds_files(config, tmp_path)
    named = []
    for cluster, server in (
        ("xds_cluster", "sluice-control-plane"),
        (RUNTIME_CLUSTER, "sluice-callout"),
    ):
        context = clusters(config, tmp_path)[cluster]["transport_socket"]["typed_config"]
        common = context["common_tls_context"]
        validation = common["combined_validation_context"]
        (matcher,) = validation["default_validation_context"]["match_typed_subject_alt_names"]
        assert (context["sni"], matcher["matcher"]["exact"]) == (server, server)
        named += [
            *common["tls_certificate_sds_secret_configs"],
            validation["validation_context_sds_secret_config"],
        ]
    paths = {each["sds_config"]["path_config_source"]["path"] for each in named}
    assert paths == set(map(str, written))
    (secret,) = yaml.safe_load(written[0].read_text())["resources"]
    assert secret["tls_certificate"]["private_key"]["filename"] == str(tmp_path / "envoy.key")


def test_the_token_of_an_envoy_is_not_in_its_bootstrap(tmp_path: Path) -> None:
    (tmp_path / "envoy.token").write_text("a-secret-0123456789")
    tokens = {"callout": {"token_file": "callout.token"}, "envoy": {"token_file": "envoy.token"}}
    config = GatewayConfig.model_validate({"identity": tokens})
    (written,) = write_sds_files(config, tmp_path)
    text = render(config, directory=tmp_path)
    assert str(written) in text
    assert "a-secret" not in text + written.read_text()
    assert clusters(config, tmp_path)["xds_cluster"]["transport_socket"] is None


def _text(address: dict[str, dict[str, object]]) -> str:
    if "pipe" in address:
        return str(address["pipe"]["path"])
    return "{address}:{port_value}".format(**address["socket_address"])


@pytest.mark.parametrize(
    ("control_plane", "expected", "kind"),
    [
        ({"xds": "10.0.0.1:18000", "allow_insecure": True}, ["10.0.0.1"], "STATIC"),
        ({"replicas": ["10.0.0.1:18000", "10.0.0.2:18000"]}, ["10.0.0.1", "10.0.0.2"], "STATIC"),
        ({"replicas": ["a.internal:1", "10.0.0.2:1"]}, ["a.internal", "10.0.0.2"], "STRICT_DNS"),
    ],
)
def test_envoy_knows_every_control_plane(
    control_plane: dict[str, object], expected: list[str], kind: str
) -> None:
    config = GatewayConfig.model_validate({"control_plane": control_plane})
    clusters = yaml.safe_load(render(config))["static_resources"]["clusters"]
    (cluster,) = (each for each in clusters if each["name"] == "xds_cluster")
    (group,) = cluster["load_assignment"]["endpoints"]
    found = [
        each["endpoint"]["address"]["socket_address"]["address"] for each in group["lb_endpoints"]
    ]
    assert (found, cluster["type"]) == (expected, kind)


def test_only_with_a_folder_for_it_the_admin_interface_drains_envoy() -> None:
    (paths,) = yaml.safe_load(render(CONFIG))["admin"]["allow_paths"]
    assert "healthcheck" not in paths["safe_regex"]["regex"]
    folder = Path('/run/a "quoted" ä')
    bootstrap = yaml.safe_load(render(CONFIG, drain_folder=folder))
    reading, draining = bootstrap["admin"]["allow_paths"]
    assert reading == paths
    code = draining["custom"]["typed_config"]["source_code"]["inline_string"]
    assert r'["/healthcheck/fail"] = "/run/a \034quoted\034 \195\164/fail"' in code
    assert r'["/drain_listeners"] = "/run/a \034quoted\034 \195\164/drain_listeners"' in code
