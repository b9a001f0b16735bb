"""The version of the program, and the header `user-agent` in requests that it sends."""

from importlib.metadata import PackageNotFoundError, version


def _version() -> str:
    try:
        return version("sluice-gateway")
    except PackageNotFoundError:  # a copy of the source code that is not installed
        return ""


VERSION = _version()
"""The version of the installed package; empty if it is not installed."""

USER_AGENT = f"sluice/{VERSION}".rstrip("/")
"""`sluice/VERSION` (RFC 9110 section 10.1.5). Firewalls refuse the names of HTTP libraries, such as
`Python-urllib`."""
