"""A request whose decision is explained."""

from dataclasses import dataclass

_BODY_METHODS = ("POST", "PUT", "PATCH")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as a client sends it. `path` includes the query; header names are in lower case.

    `body` is None if the request has none, or if it is not given (see `has_body`).
    """

    method: str
    authority: str
    path: str
    headers: tuple[tuple[str, bytes], ...]
    body: bytes | None

    @property
    def has_body(self) -> bool:
        """Whether the request has a body, given or not.

        A method with a body and a media type means a body that was not given, for a decision
        without it. curl itself would send a request without a body.
        """
        if self.body is not None:
            return bool(self.body)
        names = dict(self.headers)
        length = names.get("content-length", b"0").strip(b"0 ")
        return bool(length) or (self.method in _BODY_METHODS and "content-type" in names)
