"""Response headers that tell a client about its limits.

`RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers-10 has them: lists of
quoted policy names (structured fields, RFC 9651) with the quota `q` and its window `w` in seconds,
and with what remains, `r`, and the seconds until it is whole, `t`. `Retry-After` is RFC 9110's.
"""

from extproc.limits.limiter import LimitVerdict


def limit_headers(verdict: LimitVerdict, *, describe: bool = True) -> list[tuple[str, str]]:
    """Headers for a response; `describe` is the config's `limits.headers`.

    A refusal always carries Retry-After. Rule names need no quoting beyond the quotes.
    """
    headers = [] if verdict.admitted else [("retry-after", str(verdict.retry_after))]
    if describe and verdict.rule is not None and not verdict.unavailable:
        name = f'"{verdict.rule}"'
        headers.append(("ratelimit-policy", f"{name};q={verdict.limit};w={verdict.window}"))
        headers.append(("ratelimit", f"{name};r={verdict.remaining};t={verdict.reset_seconds}"))
    return headers
