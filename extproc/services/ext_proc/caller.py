"""Names the caller of a request, so that callers share conversion threads and memory fairly."""

from collections.abc import Mapping

from extproc.client_network import client_network
from extproc.decision import Admission
from sluice.contract.headers import CLIENT_ADDRESS


def caller_of(admission: Admission, headers: Mapping[str, bytes]) -> str:
    """The authenticated subject, or the network of an anonymous client.

    Envoy sets the header with the address, and replaces a value that the client sends. Behind
    trusted proxies it takes the address that the outermost of them saw (`listener.trusted_hops`).
    """
    if admission.subject:
        return f"subject {admission.subject}"
    return f"address {client_network(headers.get(CLIENT_ADDRESS, b'').decode('latin-1'))}"
