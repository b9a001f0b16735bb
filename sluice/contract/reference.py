"""Generates docs/reference/errors.md from the tables of reasons and local replies."""

from collections.abc import Iterable, Mapping

from sluice.contract.causes import CREDENTIAL_CAUSES
from sluice.contract.grpc import grpc_status
from sluice.contract.local_replies import LOCAL_REPLIES, LOCAL_REPLIES_BY_STATUS
from sluice.contract.reasons import (
    ADMISSIONS,
    CONVERSION_REFUSALS,
    DECISION_REFUSALS,
    Reason,
    RefusalReason,
)
from sluice.contract.video import DropReason, VideoReason

_HEAD = """# Reasons and errors

Generated from `sluice/contract` by `make docs`.

Every refusal is a problem document (RFC 9457) with the member `reason`. The member `error` has the
text for clients of the Open Inference Protocol and of the V1 protocol. A gRPC client gets a gRPC
status instead, and the detail as its message. If `requests.expose_reason` is set, responses have
the header `x-sluice-reason`. The access log always contains the reason.
"""


def reference() -> str:
    """The reference page, as Markdown."""
    return "\n".join(
        [
            _HEAD,
            *_section(
                "Admissions",
                "The reason of an admission says how the gateway chose the version.",
                ("reason", "when"),
            ),
            *_rows((f"`{reason}`", when) for reason, when in ADMISSIONS.items()),
            "",
            *_section(
                "Refusals by a decision",
                "The callout refuses a request because of its headers, a breaker or a limit, or "
                "because of a body that\nis not converted.",
                ("reason", "status", "gRPC", "when"),
            ),
            *_rows(_refusals(DECISION_REFUSALS)),
            "",
            *_section(
                "Causes of refused credentials",
                "The field `cause` of the access log, and the label `cause` of "
                "`sluice_credentials_refused_total`. The\nclient gets a text in `detail`.",
                ("cause", "when"),
            ),
            *_rows((f"`{cause}`", when) for cause, when in CREDENTIAL_CAUSES.items()),
            "",
            *_section(
                "Refusals of a body that cannot be converted",
                "The member `field` names the place of the error in the request. The reasons "
                "`body_too_large`,\n`unsupported_media_type`, `conversion_queue_full` and "
                "`conversion_timeout` of the previous table also apply to\nconversion.",
                ("reason", "status", "when"),
            ),
            *_rows((row[0], row[1], row[3]) for row in _refusals(CONVERSION_REFUSALS)),
            "",
            "If a gRPC model server responds with an error, the reason is `model_` followed by the "
            "name of the gRPC\nstatus, such as `model_not_found`. `google/rpc/code.proto` defines "
            "the HTTP status.",
            "",
            *_section(
                "Local replies of Envoy",
                "Envoy generates these responses. The first row that matches applies: Envoy's "
                "`response_code_details` start\nwith a value of the row, or contain the value if "
                "the row says `contains`. `any other` matches by status.",
                ("reason", "status", "`response_code_details`", "`detail`"),
            ),
            *_rows(_local_replies()),
            "",
            "These reasons appear only in the access log. `client_left`: the client closed the "
            "connection before the response\nwas complete. `gateway_status`: the gateway answered "
            "for itself (`/v2`, `/v2/health/live`, `/v2/health/ready`). `cors_preflight`: Envoy "
            "answered the preflight of\na browser.",
            "",
            "## Video",
            "",
            "Why the video service refuses a call, ends a stream or has no result for a frame; and "
            "why it drops a\nframe. [Video](../video.md#failures) explains each of them.",
            "",
            f"- {', '.join(f'`{reason}`' for reason in VideoReason)}",
            f"- drops: {', '.join(f'`{reason}`' for reason in DropReason)}",
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
        matched = f"contains `{reply.contains}`" if reply.contains else ""
        matched += ", ".join(f"`{prefix}`" for prefix in reply.prefixes)
        if reply.unless is not None:
            matched += f", unless the status is {reply.unless}"
        yield f"`{reply.reason}`", str(reply.status), matched, reply.detail
    for status, (reason, detail) in LOCAL_REPLIES_BY_STATUS.items():
        yield f"`{reason}`", str(status), "any other", detail


if __name__ == "__main__":
    print(reference(), end="")
