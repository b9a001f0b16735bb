"""The files of the demo: its config, and requests to try it with.

In a checkout, users edit `examples/gateway.yaml` itself. The files of an installed package belong
to the administrator, so users get a copy.
"""

import json
import re
from pathlib import Path

from sluice.data import data_path, is_checkout

FOLDER = Path("sluice-demo")
"""The folder of the copy, in the working folder."""
CONFIG = "gateway.yaml"
REQUESTS = ("sentiment.json", "digit-7.png")

_CHECKOUT_JWKS = "../var/dev-jwks.json"
_MODEL_ADDRESS = re.compile(r"127\.0\.0\.1:91(\d\d)\b")
_ADDRESSES = """listener: {{ address: "127.0.0.1:{0}" }}
control_plane: {{ http: "127.0.0.1:{1}", xds: "127.0.0.1:{2}" }}
envoy: {{ admin: "127.0.0.1:{3}" }}
telemetry: {{ metrics: {{ address: "127.0.0.1:{4}" }} }}
callout: {{ address: "127.0.0.1:{5}" }} # and one more port for each further worker

"""
_FIRST_MODEL = 20
"""Offset of the ports of the models: the workers of the callout have the ports before them."""
PORTS = 40
"""Ports from the first one that a copy with ports of its own may use."""


class DemoExistsError(OSError):
    """A file of the copy exists already."""


def default_config() -> Path:
    """The config of `sluice up --demo` without a CONFIG. In an installed package, it is a copy."""
    return data_path("examples") / CONFIG if is_checkout() else FOLDER / CONFIG


def checkout_key_set() -> Path | None:
    """The key set file that the config in a checkout names; None in an installed package."""
    return (data_path("examples") / _CHECKOUT_JWKS).resolve() if is_checkout() else None


def copy_demo(folder: Path, jwks: Path, port: int | None = None) -> list[Path]:
    """Write the demo config and its requests into a folder, and return their paths.

    `jwks`: the key set file that the config trusts. `port`: the first of `PORTS` ports that the
    config uses; None: the defaults. Raises DemoExistsError if a file exists, and OSError.
    """
    examples = data_path("examples")
    text = (examples / CONFIG).read_text()
    text = text.replace(_CHECKOUT_JWKS, json.dumps(str(jwks.absolute())))
    if port is not None:
        text = _with_ports(text, port)
    contents = {CONFIG: text.encode()}
    contents |= {name: (examples / name).read_bytes() for name in REQUESTS}
    paths = [folder / name for name in contents]
    for path in paths:
        if path.exists():
            raise DemoExistsError(f"{path} exists")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, contents.values(), strict=True):
        with path.open("xb") as file:
            file.write(content)
    return paths


def _with_ports(text: str, port: int) -> str:
    """The config with its addresses at consecutive ports of the loopback address."""
    head, separator, body = text.partition("\nauth:")
    addresses = _ADDRESSES.format(*range(port, port + 6))
    body = _MODEL_ADDRESS.sub(lambda m: f"127.0.0.1:{port + _FIRST_MODEL + int(m[1])}", body)
    return f"{head}\n{addresses}{separator[1:]}{body}"
