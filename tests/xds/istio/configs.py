"""Configs of meshes, and their resources as JSON."""

from pathlib import Path
from typing import Any

from sluice.config.gateway import GatewayConfig
from xds.istio.documents import document
from xds.istio.resources import compile_istio

HERE = Path(__file__).parent

# Any: JSON of a resource.
Json = dict[str, Any]

ISTIO: Json = {"hosts": ["models.example.com"], "gateways": ["istio-ingress/public"]}


def version(*addresses: str, **settings: object) -> Json:
    """A version with these endpoints."""
    return {"endpoints": [{"address": each} for each in addresses], **settings}


def service(name: str, port: int | str = 8000, namespace: str = "models") -> Json:
    """A version whose endpoints are the pods of a Kubernetes service."""
    kubernetes = {"service": name, "namespace": namespace, "port": port}
    return {"endpoints_from": {"kubernetes": kubernetes}}


def config(models: Json, istio: Json | None = None, **sections: object) -> GatewayConfig:
    """A config with the section `istio`: its defaults, and these settings."""
    section = {**ISTIO, **(istio or {})}
    return GatewayConfig.model_validate({"istio": section, "models": models, **sections})


def specs(config: GatewayConfig, kind: str) -> dict[str, Json]:
    """The specs of the resources of a kind, by name."""
    documents = (document(each) for each in compile_istio(config))
    return {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == kind}


def routes(config: GatewayConfig) -> list[Json]:
    """The routes of the VirtualService."""
    found: list[Json] = specs(config, "VirtualService")["sluice"]["http"]
    return found
