"""The Secrets and ConfigMaps of a cluster, as `deploy/kubernetes/create-secrets` makes them."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluice.certificates import make_certificates
from sluice.cli import main
from sluice.cli.certs import PARTS
from sluice.config.checked import LoadedConfig, load_checked
from sluice.config.named_files import RUNS_HERE
from tests.authority import Authority
from tests.deploy.manifests import KUBERNETES, Manifests
from tests.deploy.mounts import Contents, mounted_files

SCRIPT = KUBERNETES / "create-secrets"

KUBECTL = '''\
#!{python}
"""Takes the place of kubectl without a cluster: writes objects into a folder.

Without permission to read, `get` fails, as for an object that does not exist.
"""
import base64, json, os, pathlib, sys

verb, kind, *rest = sys.argv[1:]
cluster = pathlib.Path({cluster!r})

def write(found, mode):
    with (cluster / f"{{found['name']}}.json").open(mode) as file:
        json.dump(found, file)

if verb == "get":
    sys.exit("NO_READ" in os.environ or not (cluster / f"{{rest[0]}}.json").exists())
if verb == "apply":
    write(json.load(sys.stdin), "w")
if verb == "create" and kind != "namespace":
    kind = "secret" if kind == "secret" else "configMap"
    name = rest[1] if kind == "secret" else rest[0]
    data = {{}}
    for option in rest:
        if option.startswith("--from-file="):
            key, _, file = option.removeprefix("--from-file=").rpartition("=")
            content = pathlib.Path(file).read_bytes()
            data[key or os.path.basename(file)] = base64.b64encode(content).decode()
    found = {{"kind": kind, "name": name, "data": data}}
    if "--dry-run=client" in rest:
        json.dump(found, sys.stdout)
    else:
        write(found, "x")
'''


def create_secrets(folder: Path, files: Path | None, *, may_read: bool = True) -> Contents:
    """Run the script with the files of `sluice certs`. `folder` keeps what it has created.

    `may_read`: whether the script can see what exists. Raises CalledProcessError.
    """
    folder.mkdir(exist_ok=True)
    kubectl = folder / "kubectl"
    kubectl.write_text(KUBECTL.format(python=sys.executable, cluster=str(folder)))
    kubectl.chmod(0o700)
    argv = [str(SCRIPT), *([] if files is None else [str(files)])]
    environment = {**os.environ, "KUBECTL": str(kubectl), **({} if may_read else {"NO_READ": "1"})}
    subprocess.run(argv, check=True, env=environment, timeout=60)
    return created(folder)


def created(folder: Path) -> Contents:
    """What `create_secrets` has created in the folder."""
    found: dict[tuple[str, str], Mapping[str, bytes]] = {}
    for file in folder.glob("*.json"):
        stored = json.loads(file.read_text())
        data = {key: base64.b64decode(value) for key, value in stored["data"].items()}
        found[stored["kind"], stored["name"]] = data
    return found


def certificates(folder: Path) -> Path:
    """The files of `sluice certs`, and a key set with the key `signing.pem`."""
    list(make_certificates(folder, PARTS, [], 90, datetime.now(UTC)))
    key = folder / "signing.pem"
    if not key.exists():
        assert main(["jwks", "--new", str(key), "--output", str(folder / "jwks.json")]) == 0
    return folder


def token(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A token for a member of the group `vip`, as docs/kubernetes.md signs it."""
    claims = ["--claim", "iss=https://dev.sluice.localhost", "--claim", "aud=sluice"]
    key = ["--key-file", str(folder / "signing.pem")]
    assert main(["token", *key, "--sub", "1234", "--group", "vip", *claims]) == 0
    return capsys.readouterr().out.strip()


def listener_certificate() -> Contents:
    """The Secret `sluice-listener-tls`, with a certificate of any authority."""
    issued = Authority("public").issue("gateway.example.com")
    files = {"tls.crt": issued.certificate, "tls.key": issued.private_key}
    return {("secret", "sluice-listener-tls"): files}


def config_maps(manifests: Manifests) -> Contents:
    """The ConfigMaps of a kustomization."""
    return {
        ("configMap", each["metadata"]["name"]): {
            key: text.encode() for key, text in each["data"].items()
        }
        for each in manifests.of_kind("ConfigMap")
    }


def files_of(manifests: Manifests, workload: str, name: str, cluster: Contents) -> dict[str, bytes]:
    """The files that a container of an overlay sees in a cluster, by their paths."""
    contents = {**cluster, **config_maps(manifests)}
    return mounted_files(manifests.pod(workload), manifests.container(workload, name), contents)


def checked_config(
    manifests: Manifests, containers: Iterable[tuple[str, str]], cluster: Contents, folder: Path
) -> LoadedConfig:
    """The config of the containers, by workload and name, with their files in a folder."""
    for workload, name in containers:
        for path, data in files_of(manifests, workload, name, cluster).items():
            file = folder / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
    config = folder / "etc/sluice/config/gateway.yaml"
    config.write_text(config.read_text().replace("/etc/sluice/", f"{folder}/etc/sluice/"))
    return load_checked(config, RUNS_HERE)
