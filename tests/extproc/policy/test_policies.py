"""A worker holds the policy in force and a staged one, and shares what they have in common."""

import asyncio

import pytest

from extproc.policy.compiled import NativeRoutes
from extproc.policy.policies import Policies
from extproc.policy.received import ReceivedPolicy
from protos.policy_pb2 import Policy as PolicyMessage
from sluice.config import PolicyDocument
from sluice.contract.headers import STAGE_METADATA
from tests.extproc.auth.tokens import issuer
from tests.extproc.decision.requests import document, make_request, version
from tests.extproc.policy.received import received, resources

BEFORE = document({"m": {}, "n": {}})
AFTER = document({"m": {"stable": "v2"}, "n": {}, "new": {}})
REMOTE = issuer(jwks=None, jwks_uri="http://127.0.0.1:9/keys")


def applied(policies: Policies, policy: ReceivedPolicy) -> Policies:
    policies.commit(policies.compile(policy))
    return policies


def stable(policies: Policies) -> tuple[str, str]:
    """The versions to which the policy in force and the staged one send a request."""
    found = [each.current for each in (policies.in_force, policies.staged)]
    assert found[0] is not None
    assert found[1] is not None
    return version(found[0], make_request()), version(found[1], make_request())


def test_without_a_stage_both_are_the_policy_in_force() -> None:
    policies = applied(Policies(), received(BEFORE))
    assert policies.mark is None
    assert policies.staged.current is policies.in_force.current


def test_both_policies_decide() -> None:
    policies = applied(Policies(), received(BEFORE, AFTER, ["envoy-1"]))
    assert policies.mark == (STAGE_METADATA, AFTER.version)
    assert stable(policies) == ("v1", "v2")


def test_a_staged_policy_compiles_only_the_models_that_differ(read: list[bytes]) -> None:
    policies = applied(Policies(), received(BEFORE))
    assert len(read) == 2
    applied(policies, received(BEFORE, AFTER))
    assert len(read) == 4
    in_force, staged = policies.in_force.current, policies.staged.current
    assert in_force is not None
    assert staged is not None
    assert staged.models[b"n"] is in_force.models[b"n"]
    assert staged.authenticator is in_force.authenticator


def test_a_promotion_uses_what_was_compiled_for_the_stage(read: list[bytes]) -> None:
    after = document({"m": {"stable": "v2"}}, auth={"issuers": [issuer(issuer="other")]})
    policies = applied(Policies(), received(BEFORE, after))
    staged = policies.staged.current
    assert staged is not None
    del read[:]
    applied(policies, received(after))
    promoted = policies.in_force.current
    assert promoted is not None
    assert read == []
    assert policies.mark is None
    assert promoted.models[b"m"] is staged.models[b"m"]
    assert promoted.authenticator is staged.authenticator
    assert stable(policies) == ("v2", "v2")


def test_the_end_of_a_stage_is_told_once() -> None:
    policies, ends = Policies(), list[str]()
    policies.on_stage_end(lambda: ends.append("end"))
    applied(policies, received(BEFORE))
    applied(policies, received(BEFORE, AFTER))
    applied(policies, received(BEFORE, document({"m": {"stable": "v3"}})))
    assert (ends, stable(policies)) == ([], ("v1", "v3"))
    applied(policies, received(BEFORE))
    applied(policies, received(BEFORE))
    assert (ends, stable(policies)) == (["end"], ("v1", "v1"))


def test_a_policy_that_cannot_be_compiled_changes_neither() -> None:
    policies = applied(Policies(), received(BEFORE, AFTER))
    invalid = document(auth={"issuers": [issuer(jwks='{"keys": [{}]}')]})
    for bad in (received(AFTER, invalid), received(invalid, AFTER)):
        with pytest.raises(ValueError, match="key"):
            policies.compile(bad)
        assert stable(policies) == ("v1", "v2")
        assert policies.mark == (STAGE_METADATA, AFTER.version)


def test_names_are_those_of_both_and_breakers_those_of_each() -> None:
    on, off = ({"m": {"breaker": {"enabled": each}}} for each in (True, False))
    staged = document({**off, "new": {}})
    compiled = Policies().compile(received(document(on), staged))
    assert compiled.versions == {each: {"v1", "v2", "v3"} for each in ("m", "new")}
    assert {name: each.enabled for name, each in compiled.staged_breakers.items()} == {
        f"{model}/{each}": model == "new" for model in ("m", "new") for each in ("v1", "v2", "v3")
    }
    assert Policies().compile(received(document(on))).staged_breakers == {}


def native(policy: ReceivedPolicy) -> list[tuple[str, str]]:
    routes = Policies().compile(policy).native_routes
    assert all(isinstance(each, NativeRoutes) for each in routes)
    return [(each.model, each.digest) for each in routes]


def test_native_routes_of_both_policies_are_vouched_for() -> None:
    bodies = resources(BEFORE, AFTER)
    digests = {"model/m": "d1", "model/n": "d2", "staged/model/m": "d3", "staged/model/n": "d2"}
    for name, digest in digests.items():
        message = PolicyMessage.FromString(bodies[name])
        message.models[0].native = digest
        bodies[name] = message.SerializeToString()
    assert native(ReceivedPolicy.read(bodies)) == [("m", "d1"), ("n", "d2"), ("m", "d3")]


def test_the_conversion_timeout_is_that_of_the_policy_in_force() -> None:
    before, after = document(conversion_timeout=20), document(conversion_timeout=5)
    policies = applied(Policies(), received(before, after))
    assert policies.staged.current is not None
    assert policies.staged.current.conversion_timeout == 20
    applied(policies, received(after))
    assert policies.in_force.current is not None
    assert policies.in_force.current.conversion_timeout == 5


def test_key_sets_are_fetched_for_both_policies_and_stay_in_use_after_a_promotion() -> None:
    async def test() -> None:
        before, after = document(), document(auth={"issuers": [REMOTE]})
        policies = applied(Policies(), received(before, after))
        assert policies.in_force.refresh_keys(REMOTE.issuer) is None
        waiting = policies.staged.refresh_keys(REMOTE.issuer)
        assert waiting is not None
        await waiting
        applied(policies, received(after))
        # The latest fetch is too recent, which only the same fetches know.
        assert policies.in_force.refresh_keys(REMOTE.issuer) is None
        policies.close()

    asyncio.run(test())


def change(
    previous: ReceivedPolicy, *names: str, removed: tuple[str, ...] = (), **bodies: PolicyDocument
) -> ReceivedPolicy:
    staged = resources(bodies["before"], bodies["after"], ["envoy-2"])
    return ReceivedPolicy.read({name: staged[name] for name in names}, removed, previous)


def test_a_response_may_change_a_part_of_the_staged_policy() -> None:
    first = received(BEFORE, AFTER, ["envoy-1"])
    assert first.staged is not None
    assert first.staged.nodes == {"envoy-1"}
    again = change(first, "staged/policy", before=BEFORE, after=AFTER)
    assert again.staged is not None
    assert again.staged.nodes == {"envoy-2"}
    assert again.staged.models == first.staged.models
    assert again.models == first.models
    third = document({"m": {"stable": "v3"}, "n": {}})
    names = ("staged/policy", "staged/model/m")
    other = change(first, *names, removed=("staged/model/new",), before=BEFORE, after=third).staged
    assert other is not None
    assert set(other.models) == {"m", "n"}
    assert other.models["m"].model().stable_version == "v3"
    renewed = change(first, "policy", before=document({"m": {}}), after=AFTER)
    assert renewed.staged == first.staged


def test_a_staged_policy_ends_with_its_last_resource() -> None:
    first = received(BEFORE, AFTER, ["envoy-1"])
    names = tuple(name for name in resources(BEFORE, AFTER) if name.startswith("staged/"))
    ended = ReceivedPolicy.read({}, names, first)
    assert ended == received(BEFORE)
    for removed in (("staged/policy",), names[:2]):
        assert "staged/policy" in removed
        with pytest.raises(ValueError, match="without settings"):
            ReceivedPolicy.read({}, removed, first)


def test_the_content_of_equal_models_is_held_once() -> None:
    first = received(BEFORE, AFTER)
    assert first.staged is not None
    assert first.staged.models["n"] is first.models["n"]
    assert first.staged.models["m"] is not first.models["m"]
