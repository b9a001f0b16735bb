"""A worker reads and compiles only the models of a policy that have changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.policy.compiled import Policy, compile_policy, compile_received
from extproc.policy.received import ReceivedPolicy
from protos import policy_pb2
from sluice.config import PolicyDocument
from tests.extproc.decision.requests import document
from tests.extproc.policy.received import received, resources

STABLE = ("v1", "v2", "v3")


def many(count: int, **changed: dict[str, object]) -> PolicyDocument:
    models: dict[str, dict[str, object]] = {
        f"m{number}": {"paths": [f"/p/{number}"]} for number in range(count)
    }
    return document(models | changed)


@pytest.mark.parametrize("count", [10, 1_000])
def test_an_edit_of_one_model_compiles_one_model(count: int, read: list[bytes]) -> None:
    before = compile_received(received(many(count)))
    assert len(read) == count
    del read[:]
    after = compile_received(received(many(count, m3={"stable": "v2"})), before)
    assert len(read) == 1
    changed = [name for name in after.models if after.models[name] is not before.models[name]]
    assert changed == [b"m3"]
    assert after.models[b"m3"].stable.version == "v2"
    assert b"/p/3" not in after.prefixes
    assert after.prefixes[b"/p/4"] == (before.models[b"m4"], False)


def test_a_model_that_is_removed_and_added_again_is_compiled_again() -> None:
    first = compile_received(received(many(3)))
    second = compile_received(received(many(2)), first)
    assert second.models.keys() == {b"m0", b"m1"}
    third = compile_received(received(many(3)), second)
    assert comparable(third) == comparable(first)


def test_models_are_compiled_again_if_their_default_limits_change() -> None:
    before = compile_received(received(document({"m": {}, "own": {"max_body": 7}})))
    small = document({"m": {}, "own": {"max_body": 7}}, requests={"max_body": 5})
    after = compile_received(received(small), before)
    assert [after.models[name].max_body for name in (b"m", b"own")] == [5, 7]


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(STABLE)), min_size=1))
def test_a_policy_does_not_depend_on_the_policies_before(history: list[dict[str, str]]) -> None:
    previous = None
    for models in history:
        policy = document({name: {"stable": stable} for name, stable in models.items()})
        previous = compile_received(received(policy), previous)
        assert comparable(previous) == comparable(compile_policy(policy))


def test_a_received_policy_is_the_document_that_was_sent() -> None:
    sent = many(3, m1={"canaries": [{"version": "v2", "percent": 5}]})
    assert received(sent).document() == sent


@pytest.mark.parametrize(
    ("name", "models", "reason"),
    [
        ("model/m", [{"name": "m", "config": b"{}"}], "models.m.versions: missing"),
        ("model/m", [{"name": "m", "config": b"\xff"}], "models.m: json_invalid"),
        ("model/m", [{"name": "m"}, {"name": "m"}], "another name than its content"),
        ("model/m", [{"name": "other"}], "another name than its content"),
        ("policy", [{"name": "m"}], "another name than its content"),
    ],
)
def test_a_model_that_is_not_valid_is_rejected(
    name: str, models: list[dict[str, object]], reason: str
) -> None:
    settings = policy_pb2.Policy(config=document({}).serialized_settings())
    message = policy_pb2.Policy(models=[policy_pb2.Model(**each) for each in models])  # type: ignore[arg-type]
    resources = {"policy": settings.SerializeToString(), name: message.SerializeToString()}
    with pytest.raises(ValueError, match=reason):
        compile_received(ReceivedPolicy.read(resources))


def test_a_response_changes_what_it_contains_and_keeps_the_rest() -> None:
    first = received(many(3))
    bodies = resources(many(3, m1={"stable": "v2"}))
    changed = {name: bodies[name] for name in ("policy", "model/m1")}
    second = ReceivedPolicy.read(changed, ["model/m2"], first)
    assert set(second.models) == {"m0", "m1"}
    assert second.models["m0"] is first.models["m0"]
    assert second.models["m1"].model().stable_version == "v2"
    assert set(first.models) == {"m0", "m1", "m2"}


def test_a_policy_needs_settings() -> None:
    with pytest.raises(ValueError, match="without settings"):
        ReceivedPolicy.read({}, ["policy"], received(many(1)))
    with pytest.raises(ValueError, match="without settings"):
        ReceivedPolicy.read({"model/m0": resources(many(1))["model/m0"]})


def test_a_policy_of_an_older_control_plane_is_rejected_with_the_reason() -> None:
    config = document({"m": {}}).model_dump_json().encode()
    with pytest.raises(ValueError, match=r"models: extra_forbidden"):
        ReceivedPolicy.read({"policy": policy_pb2.Policy(config=config).SerializeToString()})


def comparable(policy: Policy) -> tuple[object, ...]:
    """A policy without its authenticator, which has state."""
    return policy.version, policy.models, policy.prefixes, policy.longest_prefix


def test_models_share_the_settings_that_are_equal() -> None:
    settings = {"methods": ["GET", "POST"], "content_types": ["image/*", "text/plain"]}
    policy = compile_received(received(document({"a": settings, "b": settings, "c": {}})))
    a, b, c = policy.models.values()
    for name in ("methods", "allow_header", "media_types", "operations", "breaker", "bucket"):
        assert getattr(a, name) is getattr(b, name)
    assert a.breaker is c.breaker
    assert a.methods != c.methods
