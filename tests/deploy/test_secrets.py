"""The Secrets of `deploy/kubernetes`: who makes them, and which container sees which."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from sluice.config.identity import VIDEO
from tests.deploy import cluster_files
from tests.deploy.manifests import (
    CONTROL_PLANE,
    PARTS,
    Manifests,
    config_of,
    each_overlay,
    overlay,
    render,
    with_components,
)
from tests.deploy.mounts import Contents


@each_overlay
def test_each_container_has_the_files_of_its_part_and_no_key_of_another(
    name: str, cluster: Contents
) -> None:
    manifests, config = overlay(name), config_of(overlay(name))
    identity = config.identity
    assert identity is not None
    assert identity.control_plane is not None
    own = {
        "control-plane": identity.control_plane,
        "callout": identity.callout,
        "envoy": identity.envoy,
    }
    tokens = {each.secret_file for each in config.control_plane.access.tokens}
    password = config.limits.backend.password_file
    key_sets = {each.jwks_file for each in config.auth.issuers if each.jwks_file is not None}
    needed = {
        "control-plane": {*tokens, *key_sets, manifests_password(manifests)},
        "callout": {*tokens, password},
        "envoy": set[str](),
    }
    for workload, container in PARTS:
        files = cluster_files.files_of(manifests, workload, container, cluster)
        part = own[container]
        keys = {path for path in files if path.endswith(".key") and "/identity/" in path}
        assert keys == {part.private_key}
        assert {identity.ca, part.certificate, *needed[container]} <= set(files)
        assert "/etc/sluice/config/gateway.yaml" in files


def manifests_password(manifests: Manifests) -> str:
    environment = manifests.container(CONTROL_PLANE, "control-plane")["env"]
    found = {each["name"]: each["value"] for each in environment}
    password: str = found["SLUICE_STORE_PASSWORD_FILE"]
    return password


def test_create_secrets_keeps_random_secrets_and_replaces_certificates(tmp_path: Path) -> None:
    certificates = cluster_files.certificates(tmp_path / "certs")
    first = cluster_files.create_secrets(tmp_path / "cluster", certificates)
    cluster_files.certificates(tmp_path / "certs")
    second = cluster_files.create_secrets(tmp_path / "cluster", certificates)
    kept = {key for key in first if first[key] == second[key]}
    assert kept == {
        ("secret", "sluice-redis"),
        ("secret", "sluice-tokens"),
        ("configMap", "sluice-keys"),
    }
    assert len(first["secret", "sluice-redis"]["password"]) == 40
    without = cluster_files.create_secrets(tmp_path / "other", None)
    assert set(without) == {("secret", "sluice-redis"), ("secret", "sluice-tokens")}


def test_create_secrets_replaces_no_password_when_it_cannot_see_what_exists(
    tmp_path: Path,
) -> None:
    first = cluster_files.create_secrets(tmp_path, None)
    with pytest.raises(subprocess.CalledProcessError):
        cluster_files.create_secrets(tmp_path, None, may_read=False)
    assert cluster_files.created(tmp_path) == first


def test_cert_manager_makes_what_create_secrets_makes(cluster: Contents, tmp_path: Path) -> None:
    manifests = render(with_components(tmp_path, "production", "cert-manager"))
    identity = config_of(manifests).identity
    assert identity is not None
    assert identity.control_plane is not None
    made: dict[str, dict[str, Any]] = {
        each["spec"]["secretName"]: each["spec"] for each in manifests.of_kind("Certificate")
    }
    identities = {name for kind, name in cluster if kind == "secret" and "identity" in name}
    operators = {"sluice-ca", "sluice-operator"}
    assert set(made) == identities | operators
    for name, part in (
        ("control-plane", identity.control_plane.name),
        ("callout", identity.callout.name),
        ("envoy", identity.envoy.name),
        ("video", VIDEO),
    ):
        spec = made[f"sluice-{name}-identity"]
        # The first name is the name of the part.
        assert spec["dnsNames"][0] == part
        assert ("server auth" in spec["usages"]) is (name != "envoy")
        assert "client auth" in spec["usages"]
    (operator,) = config_of(manifests).control_plane.access.certificates
    assert made["sluice-operator"]["dnsNames"] == [operator.name]
