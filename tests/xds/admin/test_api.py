"""The admin API reads and changes the config, loses no change, and says what is wrong."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sluice.explain.served import ServedExplainer
from tests.xds.admin.plane import Plane, config_file, plane
from xds.admin.api.body_room import MAX_BODY
from xds.admin.api.problems import REASONS
from xds.canary.analysis import Phase, State
from xds.canary.records import CanaryRecords, Stored
from xds.candidate.start import StartOptions
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import Draft

TEXT = """\
# Edited by people.
auth:
  api_keys:
    - {name: a, sha256: "FIRST", groups: [vip]}
    - {name: b, sha256: "SECOND"}
models:
  digits:  # a comment that goes with the model
    stable: v1
    access: {public: true}
    versions:
      v1: {endpoints: [{address: "127.0.0.1:9001"}, {address: "127.0.0.1:9002"}]}
      v2: {endpoints: [{address: "127.0.0.1:9003"}]}
  # The other one.
  other:
    versions:
      v1: {endpoints: [{address: "127.0.0.1:9004"}]}
# The end.
""".replace("FIRST", f"{1:064d}").replace("SECOND", f"{2:064d}")
NEW = {"versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9005"}]}}}
DIGITS = "/v1/models/digits"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    file = config_file(tmp_path_factory.mktemp("plane"), TEXT)
    with plane(StartOptions(file, "memory"), SqliteStore(), ServedExplainer()) as running:
        yield running


@pytest.fixture
def api(shared: Plane) -> Plane:
    """The control plane with the first config."""
    result = shared.send("POST", "/v1/rollback?allow_disruption=true", {"revision": 1})
    assert result.status_code == 200
    return shared


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["reason"]) == (status, reason), document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert REASONS[reason][0] == status  # type: ignore[index]
    return document


def head(api: Plane) -> int:
    found: int = api.get("/v1/history?limit=1").json()["head"]
    return found


def text_of_head(api: Plane) -> str:
    found = asyncio.run_coroutine_threadsafe(api.store.head(), api.loop).result(5)
    assert found is not None
    return found.text


# --- changes


def test_a_patch_changes_one_key_and_keeps_the_rest_of_the_text(api: Plane) -> None:
    before = head(api)
    result = api.patch(f"{DIGITS}?reason=slow", {"timeout": "5s"})
    assert result.status_code == 200
    found = result.json()
    assert found["changes"] == [{"path": "/models/digits/timeout", "old": 30.0, "new": 5.0}]
    assert (found["revision"], found["dry_run"]) == (before + 1, False)
    assert result.headers["etag"] == f'"{before + 1}"'
    text = text_of_head(api)
    assert text.startswith(TEXT[: TEXT.index("  digits")])
    assert text.endswith(TEXT[TEXT.index("  # The other") :])
    (latest,) = api.get("/v1/history?limit=1").json()["revisions"]
    expected = {"author": "local", "origin": "api", "reason": "slow", "revision": before + 1}
    assert latest.items() >= expected.items()


def test_a_dry_run_and_a_change_without_effect_append_nothing(api: Plane) -> None:
    before = head(api)
    dry = api.patch(f"{DIGITS}?dry_run=true", {"timeout": "5s"}).json()
    assert (dry["dry_run"], dry["revision"], len(dry["changes"])) == (True, before, 1)
    same = api.patch(DIGITS, {"stable": "v1"}).json()
    assert (same["revision"], same["changes"]) == (before, [])
    assert head(api) == before


def test_models_are_added_replaced_and_removed(api: Plane) -> None:
    added = api.send("PUT", "/v1/models/new", NEW)
    assert [each["path"] for each in added.json()["changes"]] == ["/models/new"]
    replaced = api.send("PUT", "/v1/models/new", yaml.safe_dump({**NEW, "type": "t"}), "yaml")
    assert [each["path"] for each in replaced.json()["changes"]] == ["/models/new/type"]
    assert api.get("/v1/models/new?defaults=false").json() == {**NEW, "type": "t"}
    assert api.send("DELETE", "/v1/models/new").status_code == 200
    problem(api.get("/v1/models/new"), 404, "unknown_model")
    problem(api.send("DELETE", "/v1/models/new"), 404, "unknown_model")
    names = [each["name"] for each in api.get("/v1/models").json()["models"]]
    assert names == ["digits", "other"]


def test_the_config_is_replaced_as_yaml_or_json_and_patched(api: Plane) -> None:
    with_comment = TEXT.replace("# The end.", "# Another end.")
    assert api.send("PUT", "/v1/config", with_comment, "yaml").json()["changes"] == []
    assert text_of_head(api) == with_comment
    shown = api.get("/v1/config?defaults=false").json()
    shown["models"]["other"]["timeout"] = "7s"
    result = api.send("PUT", "/v1/config", shown).json()
    assert [each["path"] for each in result["changes"]] == ["/models/other/timeout"]
    patch = {"models": {"other": None, "digits": {"type": "t"}}, "limits": {"headers": False}}
    changed = {each["path"] for each in api.patch("/v1/config", patch).json()["changes"]}
    assert changed == {"/models/other", "/models/digits/type", "/limits/headers"}


def test_a_patch_of_many_models_is_one_change(api: Plane) -> None:
    patch = {"models": {f"model-{n}": NEW for n in range(40)}}
    assert len(api.patch("/v1/config", patch).json()["changes"]) == 40


def test_secrets_are_never_shown_and_stay_when_a_config_is_sent_back(api: Plane) -> None:
    shown = api.get("/v1/config?defaults=false")
    assert "0000" not in shown.text
    keys = shown.json()["auth"]["api_keys"]
    assert [each["sha256"] for each in keys] == ["(redacted)"] * 2
    # The first key is removed: the second keeps its own secret.
    kept = api.send("PUT", "/v1/config", shown.json() | {"auth": {"api_keys": keys[1:]}})
    assert kept.status_code == 200
    assert yaml.safe_load(text_of_head(api))["auth"]["api_keys"] == [
        {"name": "b", "sha256": f"{2:064d}"}
    ]
    renamed = [{**keys[1], "name": "c"}]
    refused = api.patch("/v1/config", {"auth": {"api_keys": renamed}})
    (error,) = problem(refused, 422, "invalid_config")["errors"]
    assert error["pointer"] == "/auth/api_keys/0/sha256"
    as_yaml = api.get("/v1/config?defaults=false", accept="application/yaml")
    assert api.send("PUT", "/v1/config", as_yaml.text, "yaml").json()["changes"] == []


def test_canaries_are_set_promoted_and_aborted(api: Plane) -> None:
    canary = f"{DIGITS}/canaries/v2"
    problem(api.get(canary), 404, "unknown_canary")
    problem(api.send("POST", f"{canary}/promote"), 404, "unknown_canary")
    assert api.send("PUT", canary, {"percent": 5}).status_code == 200
    assert api.send("PUT", canary, {"percent": 12.5}).status_code == 200
    expected = {
        "model": "digits", "version": "v2", "stable": "v1", "percent": 12.5, "automation": None,
    }  # fmt: skip
    assert api.get(canary).json() == expected
    assert api.get("/v1/canaries").json()["canaries"] == [expected]
    assert api.send("POST", f"{canary}/abort").status_code == 200
    assert api.get("/v1/canaries").json()["canaries"] == []
    api.send("PUT", canary, {"percent": 50})
    changes = api.send("POST", f"{canary}/promote").json()["changes"]
    assert {"path": "/models/digits/stable", "old": "v1", "new": "v2"} in changes
    assert api.get(DIGITS).json()["canaries"] == []
    (latest,) = api.get("/v1/history?limit=1").json()["revisions"]
    assert (latest["origin"], latest["reason"]) == ("canary", "model digits: canary v2 is promoted")
    problem(api.send("PUT", f"{DIGITS}/canaries/v9", {"percent": 5}), 404, "unknown_version")
    # The stable version cannot be a canary: the config itself refuses this.
    problem(api.send("PUT", canary, {"percent": 5}), 422, "invalid_config")


def test_the_steps_of_a_canary_are_paused_and_go_on(api: Plane) -> None:
    canary = f"{DIGITS}/canaries/v2"
    api.send("PUT", canary, {"percent": 5})
    problem(api.send("POST", f"{canary}/pause"), 409, "no_steps")
    steps = [{"percent": 5, "duration": 60}, {"percent": 50, "duration": 60}]
    api.patch(DIGITS, {"canaries": [{"version": "v2", "percent": 5, "steps": steps}]})
    problem(api.send("POST", f"{canary}/pause"), 503, "too_many_requests")
    begun = State("plan", Phase.RUNNING, 0, 5.0, "begins", "sluice", 0.0)
    put = CanaryRecords(api.store).put("digits", "v2", Stored(begun), 0)
    asyncio.run_coroutine_threadsafe(put, api.loop).result(5)
    found = api.send("POST", f"{canary}/pause?reason=a+holiday").json()
    assert (found["state"], found["reason"], found["author"]) == ("paused", "a holiday", "local")
    assert api.get(canary).json()["automation"] == found
    assert api.send("POST", f"{canary}/resume").json()["state"] == "running"


def test_endpoints_are_drained_undrained_and_weighted(api: Plane) -> None:
    endpoint = f"{DIGITS}/versions/v1/endpoints/127.0.0.1:9002"
    api.send("POST", f"{endpoint}/drain")
    api.send("PUT", f"{endpoint}/weight", {"weight": 3})
    found = api.get(f"{DIGITS}?defaults=false").json()["versions"]["v1"]["endpoints"]
    assert found[1] == {"address": "127.0.0.1:9002", "drain": True, "weight": 3}
    assert api.send("POST", f"{endpoint}/undrain").json()["changes"][0]["new"] is False
    unknown = f"{DIGITS}/versions/v1/endpoints/127.0.0.1:1/drain"
    problem(api.send("POST", unknown), 404, "unknown_endpoint")
    problem(api.send("PUT", f"{endpoint}/weight", {"weight": 0}), 400, "invalid_body")


def test_limits_are_changed(api: Plane) -> None:
    api.patch("/v1/limits", {"listener": {"rate": 10, "burst": 20}})
    assert api.get("/v1/limits?defaults=false").json() == {"listener": {"rate": 10, "burst": 20}}
    api.send("PUT", "/v1/limits", "listener: null\n", "yaml")
    assert api.get("/v1/limits").json()["listener"] is None
    api.patch("/v1/limits", {"listener": None})
    assert api.get("/v1/limits?defaults=false").json() == {}


def test_a_rollback_appends_the_old_text(api: Plane) -> None:
    api.patch(DIGITS, {"timeout": "5s"})
    before = head(api)
    result = api.send("POST", "/v1/rollback", {"revision": 1, "reason": "too slow"}).json()
    assert result["revision"] == before + 1
    assert text_of_head(api) == TEXT
    (latest,) = api.get("/v1/history?limit=1").json()["revisions"]
    assert (latest["origin"], latest["reason"]) == ("rollback", "too slow")
    problem(api.send("POST", "/v1/rollback", {"revision": 9999}), 404, "unknown_revision")


def test_a_change_that_cuts_off_clients_needs_a_word(api: Plane) -> None:
    api.patch("/v1/config", {"models": {f"model-{n}": NEW for n in range(20)}})
    refused = api.send("POST", "/v1/rollback", {"revision": 1})
    (error,) = problem(refused, 422, "invalid_config")["errors"]
    assert error["pointer"] == "/models"
    allowed = api.send("POST", "/v1/rollback?allow_disruption=true", {"revision": 1})
    assert allowed.status_code == 200


def test_the_history_shows_revisions_and_their_differences(api: Plane) -> None:
    api.patch(DIGITS, {"timeout": "5s"})
    number = head(api)
    shown = api.get(f"/v1/history/{number}").json()
    assert shown["config"]["models"]["digits"]["timeout"] == 5.0
    assert "0000" not in json.dumps(shown)
    change = {"path": "/models/digits/timeout", "old": 30.0, "new": 5.0}
    for query in ("", f"?from={number - 1}", "?from=1"):
        assert api.get(f"/v1/history/{number}/diff{query}").json()["changes"] == [change]
    assert api.get("/v1/history/1/diff").json()["from_revision"] is None
    older = api.get(f"/v1/history?limit=1&before={number}").json()
    assert [each["revision"] for each in older["revisions"]] == [number - 1]
    for path in ("0", "x", "9" * 30, "9999"):
        problem(api.get(f"/v1/history/{path}"), 404, "unknown_revision")


def test_a_config_is_checked_and_compared_without_being_applied(api: Plane) -> None:
    before = head(api)
    changed = TEXT.replace("9004", "9999")
    found = api.send("POST", "/v1/config/diff", changed, "yaml").json()
    assert found["changes"][0]["path"] == "/models/other/versions/v1/endpoints/0/address"
    assert api.send("POST", "/v1/config/validate", changed, "yaml").json()["warnings"] == []
    assert head(api) == before


# --- conditions and concurrent writers


def test_a_change_of_another_revision_than_the_head_is_refused(api: Plane) -> None:
    number = head(api)
    api.patch(DIGITS, {"timeout": "5s"}, if_match=f'"{number}"')
    conflict = api.patch(DIGITS, {"timeout": "6s"}, if_match=f'"{number}"')
    assert problem(conflict, 412, "conflict")["head"] == number + 1
    problem(api.patch(DIGITS, {"timeout": "6s"}, if_match=f'W/"{number + 1}"'), 412, "conflict")
    problem(api.patch(DIGITS, {"timeout": "6s"}, if_match="1"), 400, "malformed_request")
    either = f'"{number}", "{number + 1}"'
    assert api.patch(DIGITS, {"timeout": "6s"}, if_match=either).status_code == 200
    assert api.patch(DIGITS, {"timeout": "7s"}, if_match="*").status_code == 200


def test_a_reader_that_has_the_config_gets_no_body(api: Plane) -> None:
    tag = api.get("/v1/config").headers["etag"]
    for path in ("/v1/config", DIGITS, "/v1/limits"):
        assert api.get(path, if_none_match=f'"0", W/{tag}').status_code == 304
        assert api.get(path, if_none_match='"0"').status_code == 200


def test_no_change_of_concurrent_writers_is_lost(api: Plane) -> None:
    names = [f"m{n}" for n in range(12)]

    def put(name: str) -> int:
        return api.send("PUT", f"/v1/models/{name}", NEW).status_code

    before = head(api)
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(put, names)) == {200}
    listed = {each["name"] for each in api.get("/v1/models").json()["models"]}
    assert listed == {"digits", "other", *names}
    assert head(api) == before + len(names)


def test_of_two_writers_with_the_same_base_one_gets_a_conflict(api: Plane) -> None:
    tag, barrier = api.get("/v1/config").headers["etag"], threading.Barrier(2)

    def put(name: str) -> int:
        barrier.wait(60)
        return api.send("PUT", f"/v1/models/{name}", NEW, if_match=tag).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(put, ["x", "y"])) == [200, 412]


def test_a_writer_elsewhere_is_not_overwritten(api: Plane) -> None:
    """Another replica appends to the same store between the read and the append of a change."""
    other = Draft(TEXT.replace("9004", "9999"), "v", "replica", "", "api")
    appended = asyncio.run_coroutine_threadsafe(
        api.store.append(other, expected=None), api.loop
    ).result(5)
    result = api.patch(DIGITS, {"timeout": "9s"}).json()
    assert result["revision"] == appended.number + 1
    assert "9999" in text_of_head(api)


# --- refusals


def test_errors_of_a_config_have_pointer_line_and_key(api: Plane) -> None:
    text = TEXT.replace('"127.0.0.1:9004"', "nowhere")
    line = text[: text.index("nowhere")].count("\n") + 1
    for method, path in (("PUT", "/v1/config"), ("POST", "/v1/config/validate")):
        (error,) = problem(api.send(method, path, text, "yaml"), 422, "invalid_config")["errors"]
        assert error["pointer"] == "/models/other/versions/v1/endpoints/0/address"
        assert error["key"] == "models.other.versions.v1.endpoints.0.address"
        assert error["line"] == line
        assert "host:port" in error["detail"]


@pytest.mark.parametrize(
    ("path", "patch", "pointer"),
    [
        (DIGITS, {"versions": {"v1": {"x": 1}}}, "/models/digits/versions/v1/x"),
        (DIGITS, {"stable": "v9"}, "/models/digits/stable"),
        (DIGITS, {"canaries": [{"version": "v2", "percent": 101}]},
         "/models/digits/canaries/0/percent"),
        (DIGITS, {"timeout": True}, "/models/digits/timeout"),
        (DIGITS, {"versions": None}, "/models/digits/versions"),
        ("/v1/limits", {"models": {"nope": {"rate": 1, "burst": 1}}}, "/limits/models/nope"),
        ("/v1/config", {"nope": 1}, "/nope"),
        ("/v1/config", {"models": {"a/b": NEW}}, "/models"),
        ("/v1/config", {"models": None}, "/models"),
        ("/v1/config", {"listener": {"address": "127.0.0.1:1"}}, "/listener/address"),
        ("/v1/config", {"auth": {"api_keys": [{"name": "x", "sha256": "(redacted)"}]}},
         "/auth/api_keys/0/sha256"),
        ("/v1/config", {"auth": {"issuers": [
            {"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks_file": "none"}]}},
         "/auth/issuers/0/jwks_file"),
    ],
)  # fmt: skip
def test_every_kind_of_error_has_a_pointer(
    api: Plane, path: str, patch: object, pointer: str
) -> None:
    before = head(api)
    errors = problem(api.patch(path, patch), 422, "invalid_config")["errors"]
    assert errors[0]["pointer"] == pointer
    assert head(api) == before


BAD_JSON = [
    b"{", b"[1]", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b'{"a": "\\ud800"}',
    b"[" * 100_000, b'{"a":' * 70 + b"1" + b"}" * 70, b"1" * 5000, b"",
    '{"a": 1}'.encode("utf-16"), b'{"a": [' + b"[]," * 1_000_000 + b"1]}",
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_JSON, ids=[str(each[:20]) for each in BAD_JSON])
def test_a_body_that_is_no_patch_is_refused(api: Plane, body: bytes) -> None:
    for path in ("/v1/config", DIGITS, "/v1/limits"):
        problem(api.send("PATCH", path, body, "patch"), 400, "invalid_body")


@pytest.mark.parametrize(
    "text", ["", "- a\n", "a: [\n", "models: {digits: *x}\n", "\x00", "a: 1\na: 2\n", "x" * 2000]
)
def test_a_text_that_is_no_config_is_refused(api: Plane, text: str) -> None:
    problem(api.send("PUT", "/v1/config", text, "yaml"), 422, "invalid_config")
    problem(api.send("PUT", DIGITS, text, "yaml"), 422, "invalid_config")


def test_a_body_of_another_type_is_refused(api: Plane) -> None:
    for kind in ("application/json", "text/plain", "application/merge-patch+json; charset=ascii"):
        refused = api.send("PATCH", DIGITS, b"{}", kind)
        problem(refused, 415, "unsupported_media_type")
        assert refused.headers["accept-patch"] == "application/merge-patch+json"
    refused = api.send("PUT", DIGITS, b"{}", "json", content_encoding="gzip")
    problem(refused, 415, "unsupported_media_type")
    assert "application/yaml" in refused.headers["accept"]
    with_body = api.send("POST", f"{DIGITS}/canaries/v2/abort", {})
    problem(with_body, 400, "invalid_body")


def test_a_body_that_is_too_large_is_refused(api: Plane) -> None:
    problem(api.send("PUT", "/v1/config", b" " * (MAX_BODY + 1)), 413, "body_too_large")

    def chunks() -> Iterator[bytes]:
        yield from (b" " * (1 << 20) for _ in range((MAX_BODY >> 20) + 1))

    headers = {"content-type": "application/yaml"}
    chunked = api.client.put("/v1/config", content=chunks(), headers=headers)
    problem(chunked, 413, "body_too_large")


@pytest.mark.parametrize("name", ["a%2Fb", "%ff%00", "%C3%A4", "a%20b", "..%2f..", "%0a", "a" * 80])
def test_a_name_that_no_model_can_have_is_refused(api: Plane, name: str) -> None:
    path = f"http://{api.address}/v1/models/{name}"
    assert api.get(path).status_code == 404
    assert api.send("PUT", path, NEW).status_code in (404, 422)


def test_a_query_must_be_known_and_valid(api: Plane) -> None:
    for query in ("limit=0", "limit=x", "before=-1", "x=1", "limit=1&limit=2"):
        problem(api.get(f"/v1/history?{query}"), 400, "invalid_query")
    problem(api.patch(f"{DIGITS}?dry_run=maybe", {}), 400, "invalid_query")
    for share in ("0", "-0.1", "1.01", "10%25", "nan", "inf", ""):
        problem(api.patch(f"{DIGITS}?nodes={share}", {}), 400, "invalid_query")


def test_the_history_tells_the_share_of_the_envoys_that_got_a_revision_first(api: Plane) -> None:
    staged = api.patch(f"{DIGITS}?nodes=0.25", {"timeout": "6s"}).json()["revision"]
    other = api.patch(DIGITS, {"timeout": "7s"}).json()["revision"]
    shown = {each["revision"]: each["nodes"] for each in api.get("/v1/history").json()["revisions"]}
    assert (shown[staged], shown[other]) == (0.25, None)
    assert api.get(f"/v1/history/{staged}").json()["nodes"] == 0.25


def test_other_methods_and_paths_are_refused(api: Plane) -> None:
    refused = api.client.request("TRACE", "/v1/config")
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD, PATCH, PUT"
    problem(api.send("POST", "/v1/status"), 405, "method_not_allowed")
    for path in ("/v1/", "/v1/nothing", "/v1/models/", "/v1/models/digits/x"):
        problem(api.get(path), 404, "not_found")
    assert api.client.head("/v1/config").content == b""


def test_the_media_type_of_a_config_is_negotiated(api: Plane) -> None:
    for accept, expected in (
        ("*/*", "application/json"),
        ("application/*;q=0.5, application/yaml", "application/yaml"),
        ("application/json;q=0, application/yaml;q=0.1", "application/yaml"),
    ):
        found = api.get("/v1/config", accept=accept).headers["content-type"]
        assert found.partition(";")[0] == expected
    problem(api.get("/v1/config", accept="text/html"), 406, "not_acceptable")


# --- the state


def test_the_state_is_shown(api: Plane) -> None:
    assert api.get("/v1/status").json()["revision"] is not None
    assert api.get("/v1/nodes").json()["nodes"] == []
    endpoints = api.get("/v1/endpoints").json()["endpoints"]
    assert [each["address"] for each in endpoints] == [f"127.0.0.1:{n}" for n in range(9001, 9005)]
    assert endpoints[0]["seen"] == []


def test_a_decision_is_explained(api: Plane) -> None:
    request = {
        "method": "POST", "path": "/v2/models/digits/infer", "body": "{}",
        "headers": {"content-type": "application/json"},
    }  # fmt: skip
    found = api.send("POST", "/v1/explain", request).json()
    assert (found["decision"]["model"], found["decision"]["version"]) == ("digits", "v1")
    refused = api.send("POST", "/v1/explain", {"path": "/v2/models/other/infer"}).json()
    assert refused["decision"]["admitted"] is False
    for body in ({}, {"path": "x"}, {"path": "/", "body": "a", "body_base64": "YQ=="},
                 {"path": "/", "body_base64": "!"}, {"path": "/", "client_address": "x"},
                 {"path": "/", "headers": {"a": "\u20ac"}}):  # fmt: skip
        problem(api.send("POST", "/v1/explain", body), 400, "invalid_body")


def test_a_config_file_is_changed_only_by_its_edits(tmp_path: Path) -> None:
    file = config_file(tmp_path, TEXT)
    with plane(StartOptions(file), SqliteStore()) as api:
        refused = problem(api.patch(DIGITS, {"timeout": "5s"}), 409, "file_source")
        assert "--store" in refused["detail"]
        assert api.patch(f"{DIGITS}?dry_run=true", {"timeout": "5s"}).status_code == 200
        problem(api.send("POST", "/v1/rollback", {"revision": 1}), 409, "file_source")
        problem(api.send("POST", "/v1/explain", {"path": "/"}), 503, "explain_unavailable")
        assert api.get("/v1/breakers").json() == {"known": False, "breakers": [], "unprotected": 0}


def test_the_real_envoy_checks_a_config(
    api: Plane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert api.patch(f"{DIGITS}?strict=true&dry_run=true", {"timeout": "5s"}).status_code == 200
    checked = api.send("POST", "/v1/config/validate?strict=true", TEXT, "yaml")
    assert checked.status_code == 200
    envoy = tmp_path / "envoy"
    envoy.write_text(
        "#!/bin/sh\necho \"error initializing configuration 'x': no such filter\" >&2; exit 1\n"
    )
    envoy.chmod(0o755)
    monkeypatch.setattr("xds.candidate.strict.find_envoy", lambda: envoy)
    before = head(api)
    refused = api.patch(f"{DIGITS}?strict=true", {"timeout": "5s"})
    assert "no such filter" in problem(refused, 422, "invalid_config")["detail"]
    envoy.unlink()
    gone = api.patch(f"{DIGITS}?strict=true", {"timeout": "5s"})
    problem(gone, 503, "strict_unavailable")
    assert head(api) == before
