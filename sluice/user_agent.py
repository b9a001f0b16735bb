"""The value of the header `user-agent` in requests that this product sends."""

from importlib.metadata import PackageNotFoundError, version


def _user_agent() -> str:
    try:
        return f"sluice/{version('sluice-gateway')}"
    except PackageNotFoundError:  # a copy of the source code that is not installed
        return "sluice"


USER_AGENT = _user_agent()
"""`sluice/VERSION` (RFC 9110 section 10.1.5). Firewalls refuse the names of HTTP libraries, such as
`Python-urllib`."""
