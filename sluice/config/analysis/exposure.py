"""Rules about what the network can read or change, and about checks that are off."""

from urllib.parse import urlsplit

from sluice.config.addresses import is_local, is_loopback, split_host_port
from sluice.config.analysis.rule import Found, Rule
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig


def _plain_text_credentials(config: GatewayConfig) -> Found:
    listener = config.listener
    is_plain = (
        listener.tls is None
        and not is_loopback(split_host_port(listener.address)[0])
        and not listener.trusted_hops
    )
    if is_plain and config.auth.accepts_credentials:
        message = f"tokens and API keys reach {listener.address} without encryption"
        yield ("listener", "address"), message


def _plain_text_key_set(config: GatewayConfig) -> Found:
    for index, issuer in enumerate(config.auth.issuers):
        url = urlsplit(issuer.jwks_uri or "")
        host = url.hostname or ""
        if url.scheme == "http" and not is_local(host):
            yield (
                ("auth", "issuers", index, "jwks_uri"),
                "without TLS, an attacker on the network can replace the keys and then sign tokens",
            )


def _disruption_allowed(config: GatewayConfig) -> Found:
    if config.allow_disruption:
        message = "changes are applied also if they cut off the clients of the gateway"
        yield ("allow_disruption",), message


def _plain_text_secret(config: GatewayConfig) -> Found:
    for path, version in config.referring_versions():
        if version.headers_from_secret and version.tls is None:
            remote = [e for _, e in version.named() if not is_local(split_host_port(e.address)[0])]
            if remote:
                message = f"the headers reach {remote[0].address} without encryption"
                yield (*path, "headers_from_secret"), message


def _any_server_allowed(config: GatewayConfig) -> Found:
    for path, version in config.referring_versions():
        if version.tls is not None and version.tls.allow_any_server:
            message = "an attacker who intercepts the connections can read and change the requests"
            yield (*path, "tls", "allow_any_server"), message


RULES = (
    Rule(
        WarningKind(
            "plain_text_credentials",
            "Callers have credentials, and the listener has no TLS, an address that is not "
            "loopback, and no trusted proxy in front of it that could end TLS (`trusted_hops`).",
            "set listener.tls, or listener.trusted_hops if a proxy in front of the gateway has TLS",
        ),
        _plain_text_credentials,
    ),
    Rule(
        WarningKind(
            "plain_text_key_set",
            "A key set is fetched over HTTP from another machine.",
            "write an https URL",
        ),
        _plain_text_key_set,
    ),
    Rule(
        WarningKind(
            "plain_text_secret",
            "A version has `headers_from_secret`, no `tls`, and an endpoint on another machine.",
            "set tls",
        ),
        _plain_text_secret,
    ),
    Rule(
        WarningKind(
            "any_server_allowed",
            "`tls.allow_any_server` of a version is set.",
            "write the CA of the servers in ca",
        ),
        _any_server_allowed,
    ),
    Rule(
        WarningKind(
            "disruption_allowed",
            "`allow_disruption` is set.",
            "remove the key after the change, so that the next change is checked",
        ),
        _disruption_allowed,
    ),
)
