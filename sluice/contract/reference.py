"""The reference page of reasons, generated from the tables."""

from collections.abc import Iterable, Mapping

from sluice.contract.grpc import grpc_status
from sluice.contract.local_replies import LOCAL_REPLIES, LOCAL_REPLIES_BY_STATUS
from sluice.contract.reasons import (
    ADMISSIONS,
    CONVERSION_REFUSALS,
    DECISION_REFUSALS,
    Reason,
    RefusalReason,
)

_HEAD = """# Reasons and errors

Generated from `sluice/contract` by `make docs`.

Every refusal is a problem document (RFC 9457) with the member `reason`. A client that speaks gRPC
gets the gRPC status instead. With `requests.expose_reason`, responses carry the reason in
`x-sluice-reason`. The access log always has it.
"""


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join(
        [
            _HEAD,
            *_section("Admissions", "The version was chosen because:", ("reason", "when")),
            *_rows((f"`{reason}`", when) for reason, when in ADMISSIONS.items()),
            "",
            *_section(
                "Refusals by a decision",
                "The callout refuses the request, or a body that passes unchanged.",
                ("reason", "status", "gRPC", "when"),
            ),
            *_rows(_refusals(DECISION_REFUSALS)),
            "",
            *_section(
                "Refusals of a body that cannot be converted",
                "The member `field` names the place in the request. `body_too_large`, "
                "`unsupported_media_type` and\n`conversion_queue_full` are used here too.",
                ("reason", "status", "when"),
            ),
            *_rows((row[0], row[1], row[3]) for row in _refusals(CONVERSION_REFUSALS)),
            "",
            "An error that a gRPC model server answers has the reason `model_` and the name of its "
            "status, such as\n`model_not_found`; its HTTP status is the one that "
            "`google/rpc/code.proto` names.",
            "",
            *_section(
                "Answers of Envoy",
                "Envoy answers by itself. It chooses the first row whose `response_code_details` "
                "match.",
                ("reason", "status", "`response_code_details`", "the client reads"),
            ),
            *_rows(_local_replies()),
            "",
            "`client_left` stands only in the access log: the client closed the connection.",
            "",
        ]
    )


def _section(title: str, text: str, columns: tuple[str, ...]) -> list[str]:
    return [
        f"## {title}",
        "",
        text,
        "",
        *_rows([columns]),
        "|" + "---|" * len(columns),
    ]


def _rows(rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in rows]


def _refusals(table: Mapping[Reason, RefusalReason]) -> Iterable[tuple[str, str, str, str]]:
    for reason, refusal in table.items():
        yield f"`{reason}`", str(refusal.status), grpc_status(refusal.status).name, refusal.when


def _local_replies() -> Iterable[tuple[str, str, str, str]]:
    for reply in LOCAL_REPLIES:
        matched = f"contain `{reply.contains}`" if reply.contains else ""
        matched += ", ".join(f"`{prefix}`" for prefix in reply.prefixes)
        if reply.unless is not None:
            matched += f", unless the status is {reply.unless}"
        yield f"`{reply.reason}`", str(reply.status), matched, reply.detail
    for status, (reason, detail) in LOCAL_REPLIES_BY_STATUS.items():
        yield f"`{reason}`", str(status), "any other", detail


if __name__ == "__main__":
    print(reference(), end="")
