"""Finds the caller of a request in its admission and its headers."""

from collections.abc import Mapping

from extproc.caller import caller_name
from extproc.decision import Admission
from sluice.contract.headers import CLIENT_ADDRESS


def caller_of(admission: Admission, headers: Mapping[str, bytes]) -> str:
    """The authenticated subject, or the network of an anonymous client.

    Envoy sets the header with the address, and replaces a value that the client sends. Behind
    trusted proxies it takes the address that the outermost of them saw (`listener.trusted_hops`).
    """
    return caller_name(admission.subject, headers.get(CLIENT_ADDRESS, b"").decode("latin-1"))
