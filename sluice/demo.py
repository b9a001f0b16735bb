"""The files of the demo: its config, and requests to try it with.

In a checkout, users edit `examples/gateway.yaml` itself. The files of an installed package belong
to the administrator, so users get a copy.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import yaml

from sluice.data import data_path, is_checkout

FOLDER = Path("sluice-demo")
"""The folder of the copy, in the working folder."""
CONFIG = "gateway.yaml"
REQUESTS = ("sentiment.json", "digit-7.png")

_CHECKOUT_JWKS = "../var/dev-jwks.json"
_ADDRESS = re.compile(r"127\.0\.0\.1:[0-9]+")
_ADDRESSES = """listener: {{ address: "127.0.0.1:{0}" }}
control_plane: {{ http: "127.0.0.1:{1}", xds: "127.0.0.1:{2}" }}
envoy: {{ admin: "127.0.0.1:{3}" }}
telemetry: {{ metrics: {{ address: "127.0.0.1:{4}" }} }}
callout: {{ address: "127.0.0.1:{5}" }} # and one more port for each further worker

"""
_FIRST_MODEL = 20
"""Offset of the ports of the models: the workers of the callout have the ports before them."""
_VIDEO = {"127.0.0.1:18200": 33, "127.0.0.1:18240": 35, "127.0.0.1:9903": 37}
"""Offsets of the ports of the video service, by its addresses. A second worker has room, too."""
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
    key_set = str(jwks.absolute())
    text = _with_values(text, lambda value: key_set if value == _CHECKOUT_JWKS else None)
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
    """The config with its addresses at ports of the loopback address, from this one.

    The values of the YAML document are changed, and not its comments.
    """
    video = {address: port + offset for address, offset in _VIDEO.items()}
    ports = defaultdict[str, int](count(port + _FIRST_MODEL).__next__, video)
    text = _with_values(
        text, lambda value: f"127.0.0.1:{ports[value]}" if _ADDRESS.fullmatch(value) else None
    )
    first_key = next(start for _, start, _ in _values(text))
    return text[:first_key] + _ADDRESSES.format(*range(port, port + 6)) + text[first_key:]


def _with_values(text: str, replacement: Callable[[str], str | None]) -> str:
    """A YAML document with other texts as values. The replacement None keeps a value."""
    parts, copied = [], 0
    for value, start, end in _values(text):
        replaced = replacement(value)
        if replaced is not None:
            parts += [text[copied:start], json.dumps(replaced)]
            copied = end
    return "".join([*parts, text[copied:]])


def _values(text: str) -> Iterator[tuple[str, int, int]]:
    """The keys and values of a YAML document, with their begins and ends in the text."""
    for token in yaml.scan(text, yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken):
            yield token.value, token.start_mark.index, token.end_mark.index
