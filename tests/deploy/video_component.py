"""An overlay with the component `video`, and with the config that its page adds."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.manifests import ROOT, Manifests, render, with_components


def with_video(folder: Path, name: str = "laptop") -> Manifests:
    """An overlay with the component, and with what the page adds to the config."""
    manifests = render(with_components(folder, name, "monitoring", "video"))
    text = merged(manifests.text("sluice-config", "gateway.yaml"), documented())
    objects = tuple(
        {**each, "data": {"gateway.yaml": text}}
        if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", "sluice-config")
        else each
        for each in manifests.objects
    )
    return replace(manifests, objects=objects)


def documented() -> Mapping[str, Any]:
    """The config in the section of docs/kubernetes.md."""
    page = (ROOT / "docs/kubernetes.md").read_text()
    section = page.partition("\n## Video\n")[2].partition("\n## ")[0]
    found: dict[str, Any] = yaml.safe_load(section.partition("```yaml\n")[2].partition("```")[0])
    return found


def merged(text: str, added: Mapping[str, Any], indent: str = "") -> str:
    """A config with further keys, at the beginning of their sections. The rest stays as it is."""
    for key, value in added.items():
        before, section, after = text.partition(f"{indent}{key}:\n")
        if section and value:
            text = before + section + merged(after, value, f"{indent}  ")
        else:
            text = f"{indent}{key}: {json.dumps(value)}\n{text}"
    return text
