"""Mirroring: a version gets copies of requests, and its answers are compared."""

from pydantic import Field

from sluice.config.values import Name, Percent, PositiveDuration, Size, Strict

MAX_MIRRORED_BODY = 16 << 20
"""Bytes: a worker holds both bodies of a request and the answer to the copy at once."""

MAX_COPIES = 256


class Mirror(Strict):
    """Sends copies of requests that `stable` has answered to another version.

    No client waits for a copy or sees its answer. A worker compares it with the answer of `stable`.
    The version runs for each copy: do not mirror requests that change anything, such as those that
    write to a database or are billed.
    """

    version: Name = Field(description="The version that gets the copies.")
    percent: Percent = Field(
        10.0, description="Percentage of `POST` requests to `stable` that are copied."
    )
    max_body: Size = Field(
        1 << 20,
        ge=1,
        le=MAX_MIRRORED_BODY,
        description="Maximum size of a request body, and of an answer. Larger ones are not copied "
        "or not compared.",
    )
    max_concurrent: int = Field(
        8,
        ge=1,
        le=MAX_COPIES,
        description="Copies of each worker that have no answer yet. While there are so many, "
        "further requests are not copied.",
    )
    timeout: PositiveDuration = Field(10.0, description="Time for the answer to a copy.")
