"""A warning is certain: each rule finds its fault, and is silent where the config can work."""

import json
from time import thread_time

from sluice.config import GatewayConfig
from sluice.config.analysis import RULES, analyze
from sluice.config.errors import unplaced
from sluice.config.load import loads

KEY = {"name": "k", "sha256": "1a" * 32, "groups": ["ops"], "claims": {"team": "red"}}
ISSUER = {"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks_file": "f"}
VERSION = {"endpoints": [{"address": "127.0.0.1:1"}]}
API_KEYS = {"api_keys": [KEY]}
TOKENS = {"issuers": [ISSUER]}


def found(**sections: object) -> list[str]:
    """Kind and key of each warning, for a config with API keys and one model if not given."""
    config = {"auth": API_KEYS, "models": {"m": model()}, **sections}
    return [
        f"{each.code} {'.'.join(map(str, each.path))}"
        for each in analyze(loads(json.dumps(config)))
    ]


def model(**keys: object) -> dict[str, object]:
    return {"versions": {"v1": VERSION, "v2": VERSION}, "stable": "v1", **keys}


def of_model(auth: object = API_KEYS, **keys: object) -> list[str]:
    return found(auth=auth, models={"m": model(**keys)})


def of_issuer(**keys: object) -> list[str]:
    issuer = {**ISSUER, **keys}
    return found(auth={"issuers": [{k: v for k, v in issuer.items() if v is not None}]})


def of_limits(auth: object = API_KEYS, **limits: object) -> list[str]:
    return found(auth=auth, limits=limits)


def matching(part: str, *values: str, match: str = "exact") -> dict[str, object]:
    condition = {"part": part, "values": values, "match": match}
    return {"rules": [{"name": "r", "rate": 1, "match": [condition]}]}


def test_a_good_config_has_no_warning() -> None:
    assert found() == []
    assert found(auth=TOKENS) == []


def test_frames_that_are_larger_than_a_body() -> None:
    def of_video(max_batch: int, max_body: str) -> list[str]:
        image = {"name": "image", "datatype": "FP32", "shape": [-1, 3, 640, 640]}
        watched = {
            "versions": {"v1": {**VERSION, "protocol": "grpc"}},
            "inputs": [{**image, "image": {"width": 640, "height": 640, "layout": "NCHW"}}],
            "video": {"max_batch": max_batch},
            "max_body": max_body,
        }
        return found(models={"m": watched}, video={})

    large = ["large_frames models.m.video"]
    assert of_video(1, "4915200B") == of_video(2, "10MiB") == []
    assert of_video(1, "4915199B") == of_video(3, "10MiB") == large


def test_streams_of_cameras_whose_frames_are_refused() -> None:
    def of_stream(access: dict[str, object], **keys: object) -> list[str]:
        grpc = {"v1": {**VERSION, "protocol": "grpc"}}
        image = {"name": "image", "datatype": "BYTES", "shape": [1]}
        watched = {"versions": grpc, "inputs": [image], "video": {}, "access": access}
        stream = {"url": "rtsp://192.0.2.1/a", "model": "m", **keys}
        return found(models={"m": watched}, video={}, videos={"door": stream})

    assert of_stream({}) == ["stream_without_credentials videos.door"]
    assert of_stream({}, enabled=False) == []
    assert of_stream({}, headers_from_secret={"authorization": {"env": "A"}}) == []
    assert of_stream({"public": True}) == []


def test_every_rule_has_a_kind_of_its_own() -> None:
    codes = [rule.kind.code for rule in RULES]
    assert len(set(codes)) == len(codes)


def test_models_that_nobody_may_use() -> None:
    assert of_model(auth={}) == ["no_credentials auth"]
    assert of_model(auth={}, access={"public": True}) == ["no_authentication auth"]
    both = {"a": model(access={"public": True}), "b": model()}
    assert found(auth={}, models=both) == ["no_credentials auth"]
    allow = "models.m.access.allow"
    without = [f"model_without_callers {allow}"]
    assert of_model(access={"allow": [{"groups": ["vip"]}]}) == [
        *without, "key_without_models auth.api_keys.0"
    ]  # fmt: skip
    assert of_model(access={"allow": [{"subjects": ["kk"]}]}) == without
    assert of_model(access={"allow": [{"claims": {"team": "blue"}}]}) == without
    assert of_model(access={"allow": [{"claims": {"team": "red"}}]}) == []
    assert of_model(access={"allow": [{"claims": {"/team": "red"}}]}) == []
    assert of_model(access={"allow": [{"subjects": ["k"]}, {"groups": ["vip"]}]}) == [
        f"rule_without_callers {allow}.1"
    ]
    assert of_model(TOKENS, access={"allow": [{"groups": ["vip"]}]}) == []


def test_a_value_of_scope_that_contains_a_space() -> None:
    rule = {"claims": {"scope": "read infer"}}
    assert of_model(TOKENS, access={"allow": [rule]}) == [
        "model_without_callers models.m.access.allow"
    ]
    assert of_model(TOKENS, access={"allow": [{"claims": {"team": "a b", "scope": "x"}}]}) == []
    select = {"claim": "scope", "value": "a b", "version": "v2"}
    assert of_model(TOKENS, claim_rules=[select]) == ["rule_without_callers models.m.claim_rules.0"]
    assert of_limits(TOKENS, **matching("claim:scope", "a b")) == [
        "rule_without_callers limits.rules.0.match.0"
    ]
    split = {"api_keys": [{**KEY, "claims": {"scope": "read infer"}}]}
    assert of_model(split, access={"allow": [{"claims": {"scope": "infer"}}]}) == []


def test_rules_that_match_no_request() -> None:
    rule = {"value": "vip", "version": "v2"}
    assert of_model(claim_rules=[rule]) == ["rule_without_callers models.m.claim_rules.0"]
    assert of_model(claim_rules=[{**rule, "value": "op", "match": "prefix"}]) == []
    assert of_model(TOKENS, claim_rules=[rule]) == []
    dead = ["rule_without_callers limits.rules.0.match.0"]
    assert of_limits(**matching("model", "x")) == dead
    assert of_limits(**matching("model", "x", "m")) == []
    assert of_limits(**matching("version", "v9")) == dead
    assert of_limits(**matching("version", "v", match="prefix")) == []
    assert of_limits(**matching("model_type", "x")) == dead
    assert of_limits(**matching("model_type", "")) == []
    assert of_limits(**matching("group", "vip")) == dead
    assert of_limits(**matching("group", "")) == []
    assert of_limits(**matching("subject", "k")) == []
    assert of_limits(**matching("claim:team", "blue")) == dead
    assert of_limits(**matching("claim:team", "red")) == []
    assert of_limits(**matching("header:x-a", "b")) == []
    assert of_limits(TOKENS, **matching("group", "vip")) == []


def test_api_keys_that_may_use_no_model() -> None:
    other = {**KEY, "name": "o", "sha256": "2b" * 32, "groups": []}
    auth = {"api_keys": [KEY, other]}
    only_ops = model(access={"allow": [{"groups": ["ops"]}]})
    unused = ["key_without_models auth.api_keys.1"]
    assert found(auth=auth, models={"m": only_ops}) == unused
    assert found(auth=auth, models={"m": only_ops, "n": model()}) == []
    by_subject = model(access={"allow": [{"subjects": ["o"]}]})
    assert found(auth=auth, models={"m": only_ops, "n": by_subject}) == []


def test_models_and_canaries_without_requests() -> None:
    assert found(models={}) == ["no_models models"]
    idle = ["idle_canary models.m.canaries.0"]
    assert of_model(canaries=[{"version": "v2", "headers": []}]) == idle
    assert of_model(canaries=[{"version": "v2", "percent": 0}]) == []
    assert of_model(canaries=[{"version": "v2", "headers": [], "percent": 1}]) == []
    assert of_model(canaries=[{"version": "v2", "headers": [], "model_types": ["x"]}]) == []
    public = {
        "access": {"public": True},
        "canaries": [{"version": "v2", "headers": [], "percent": 1}],
    }
    assert idle[0] in of_model(auth={}, **public)
    assert idle[0] not in of_model(auth={}, **public, bucket={"header": "x-user"})


def test_claim_rules_behind_others() -> None:
    def of(*rules: tuple[str, str, str]) -> list[str]:
        listed = [{"claim": c, "match": m, "value": v, "version": "v2"} for c, m, v in rules]
        return of_model(TOKENS, claim_rules=listed)

    hidden = ["hidden_claim_rule models.m.claim_rules.1"]
    assert of(("a", "prefix", "vip"), ("a", "exact", "vip-1")) == hidden
    assert of(("a", "prefix", ""), ("a", "prefix", "x")) == hidden
    assert of(("a", "exact", "vip"), ("a", "exact", "vip")) == hidden
    assert of(("a", "exact", "vip"), ("a", "prefix", "vip")) == []
    assert of(("a", "prefix", "vip"), ("b", "prefix", "vip")) == []
    assert of(("a", "prefix", "vip-1"), ("a", "prefix", "vip")) == []


def test_limits_and_breakers_without_effect() -> None:
    limit = {"rate": 1000, "burst": 2000}
    assert of_limits(models={"m": limit}) == ["unreachable_limit limits.models.m"]
    assert of_limits(models={"m": {**limit, "burst": 1999}}) == []
    assert of_limits(models={"m": limit}, listener=None) == []
    typed = {"models": {"m": model(type="t")}, "limits": {"model_types": {"t": limit}}}
    assert found(**typed) == ["unreachable_limit limits.model_types.t"]
    idle = ["idle_breaker models.m.breaker"]
    assert of_model(breaker={"refuse_above": 1, "reduce_above": 1}) == idle
    assert of_model(breaker={"refuse_above": 1, "admit": 1}) == idle
    assert of_model(breaker={"refuse_above": 1}) == []
    assert of_model(breaker={"refuse_above": 1, "admit": 1, "enabled": False}) == []


def test_keys_without_effect() -> None:
    assert of_issuer(jwks_refresh="60s") == ["unused_key auth.issuers.0.jwks_refresh"]
    assert of_issuer(jwks_file=None, jwks_uri="https://h/k", jwks_refresh="60s") == []
    check = {"health_check": {"path": "/ready"}}
    versions = {"v1": {**VERSION, **check, "protocol": "grpc"}, "v2": {**VERSION, **check}}
    assert of_model(versions=versions) == ["unused_key models.m.versions.v1.health_check.path"]
    retries = {"retries": {"per_try_timeout": "30s"}}
    assert of_model(**retries) == ["unused_key models.m.retries.per_try_timeout"]
    assert of_model(**retries, timeout="60s") == []
    assert of_model(**retries, timeout=0) == []


def test_what_the_network_can_read_or_change() -> None:
    plain = ["plain_text_credentials listener.address"]
    assert found(listener={"address": "0.0.0.0:8080"}) == plain
    assert found(listener={"address": "10.0.0.1:8080"}) == plain
    assert found(listener={"address": "10.0.0.1:8080", "trusted_hops": 1}) == []
    tls = {"certificate": "c", "private_key": "k"}
    assert found(listener={"address": "10.0.0.1:8080", "tls": tls}) == []
    assert found(listener={"address": "[::1]:8080"}) == []
    url = ["plain_text_key_set auth.issuers.0.jwks_uri"]
    assert of_issuer(jwks_file=None, jwks_uri="http://login.example.com/k") == url
    assert of_issuer(jwks_file=None, jwks_uri="http://localhost:1/k") == []
    assert of_issuer(jwks_file=None, jwks_uri="http://[::1]:1/k") == []
    assert found(allow_disruption=True) == ["disruption_allowed allow_disruption"]


def test_a_warning_says_what_is_wrong_and_what_to_change() -> None:
    (warned,) = analyze(GatewayConfig())
    assert str(warned.warning(unplaced)) == (
        "models: the gateway has no models, and answers every request with 404; add a model to "
        "models [no_models]"
    )


def test_the_work_grows_with_the_config_and_not_with_its_square() -> None:
    count = 5000
    key = {"groups": ["ops"], "claims": {"c": "y"}}
    config = GatewayConfig.model_validate({
        "auth": {"api_keys": [
            {**key, "name": f"k{n}", "sha256": f"{n:064x}", "claims": {"c": f"x{n}"}}
            for n in range(count)
        ]},
        "models": {"m": model(
            claim_rules=[
                {"claim": "c", "value": f"z{n:04}", "match": "prefix", "version": "v2"}
                for n in range(count)
            ],
            access={"allow": [{"claims": {"c": f"z{n:04}"}} for n in range(count)]},
        )},
    })  # fmt: skip
    start = thread_time()
    warnings = list(analyze(config))
    # A look at every key for each rule takes several seconds.
    assert thread_time() - start < 0.5
    assert len(warnings) == count + 1


def test_model_servers_that_others_can_read_or_stand_in_for() -> None:
    def of_version(address: str, **keys: object) -> list[str]:
        version = {"endpoints": [{"address": address}], **keys}
        return found(models={"m": {"versions": {"v1": version}}})

    secret = {"headers_from_secret": {"authorization": {"file": "f"}}}
    at = "models.m.versions.v1"
    assert of_version("models.test:80", **secret) == [f"plain_text_secret {at}.headers_from_secret"]
    assert of_version("127.0.0.1:80", **secret) == []
    assert of_version("models.test:443", **secret, tls={}) == []
    any_server = [f"any_server_allowed {at}.tls.allow_any_server"]
    assert of_version("models.test:443", tls={"allow_any_server": True}) == any_server


def test_a_heap_that_is_too_small_for_the_models() -> None:
    def of(versions: int, placement: str, heap: str) -> list[str]:
        one = {"versions": {"v1": VERSION}, "placement": placement}
        models = {f"m{number}": one for number in range(versions)}
        return found(models=models, envoy={"max_heap": heap})

    small = ["small_heap envoy.max_heap"]
    assert of(136, "auto", "64MiB") == []
    assert of(137, "auto", "64MiB") == small
    assert of(223, "callout", "64MiB") == []
    assert of(224, "callout", "64MiB") == small
    assert of(137, "auto", "65MiB") == []
    assert found(envoy={"max_heap": "64MiB"}) == []
