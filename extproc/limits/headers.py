"""Response headers that describe the limits of a request.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10. They are lists of
quoted policy names (structured fields, RFC 9651) with parameters: the quota `q` and its window `w`
in seconds; the remaining tokens `r` and the seconds until all are free, `t`. `Retry-After` is
defined in RFC 9110 section 10.2.3.
"""

from extproc.limits.limiter import LimitVerdict


def limit_headers(verdict: LimitVerdict, *, describe: bool = True) -> list[tuple[str, str]]:
    """Return the headers for a response. `describe` is `limits.headers` of the config.

    A refusal always has Retry-After. Rule names contain no character that must be escaped.
    """
    headers = [] if verdict.admitted else [("retry-after", str(verdict.retry_after))]
    if describe and verdict.rule is not None and not verdict.unavailable:
        name = f'"{verdict.rule}"'
        headers.append(("ratelimit-policy", f"{name};q={verdict.limit};w={verdict.window}"))
        headers.append(("ratelimit", f"{name};r={verdict.remaining};t={verdict.reset_seconds}"))
    return headers
