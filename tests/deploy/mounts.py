"""The files that a container sees, written as the kubelet writes them: with links that it swaps."""

from collections.abc import Mapping
from pathlib import Path

from tests.deploy.manifests import Object

Contents = Mapping[tuple[str, str], Mapping[str, bytes]]
"""The content of ConfigMaps and Secrets: by kind (`configMap`, `secret`) and name, then by key."""


class MissingSourceError(Exception):
    """A pod needs a ConfigMap or a Secret, or a key of one, that does not exist."""


def mounted_files(pod: Object, container: Object, contents: Contents) -> dict[str, bytes]:
    """The files that a container sees in its volumes, by their paths.

    Raises MissingSourceError.
    """
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    found: dict[str, bytes] = {}
    for mount in container["volumeMounts"]:
        assert "subPath" not in mount, "a file that is mounted by itself never changes"
        files = _files(volumes.get(mount["name"]), contents)
        found |= {f"{mount['mountPath']}/{name}": data for name, data in files.items()}
    return found


def swap(folder: Path, files: Mapping[str, bytes]) -> None:
    """Replace the files of a mounted folder, as the kubelet does (`AtomicWriter`)."""
    number = len(list(folder.glob("..2*")))
    content = folder / f"..2026_{number}"
    content.mkdir()
    for name, data in files.items():
        (content / name).write_bytes(data)
    link = folder / "..data_tmp"
    link.symlink_to(content.name)
    link.replace(folder / "..data")
    for name in files:
        visible = folder / name
        if not visible.is_symlink():
            visible.symlink_to(f"..data/{name}")


def _files(volume: Object | None, contents: Contents) -> dict[str, bytes]:
    """The files of a volume. An empty folder has none, and neither has a disk (None)."""
    if volume is None:
        return {}
    if "projected" in volume:
        found: dict[str, bytes] = {}
        for source in volume["projected"]["sources"]:
            (kind,) = source
            found |= _source(kind, source[kind], source[kind]["name"], contents)
        return found
    if "configMap" in volume:
        return _source("configMap", volume["configMap"], volume["configMap"]["name"], contents)
    if "secret" in volume:
        return _source("secret", volume["secret"], volume["secret"]["secretName"], contents)
    assert "emptyDir" in volume
    return {}


def _source(kind: str, source: Object, name: str, contents: Contents) -> dict[str, bytes]:
    data = contents.get((kind, name))
    if data is None:
        if source.get("optional"):
            return {}
        raise MissingSourceError(f"{kind} {name}")
    items = source.get("items") or [{"key": key, "path": key} for key in data]
    try:
        return {item["path"]: data[item["key"]] for item in items}
    except KeyError as error:
        raise MissingSourceError(f"{kind} {name}: {error}") from error
