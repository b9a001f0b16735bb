"""Policies with extreme values: each is compiled, or rejected with a ValueError.

The number of a policy determines it, so that a failure can be reproduced.
"""

import json
from random import Random

from extproc.policy.compiled import compile_policy
from sluice.config import PolicyDocument
from tests.extproc.auth.tokens import ec_jwk, ed_jwk, issuer, key_set, rsa_jwk, secret_jwk
from tests.extproc.decision.requests import VERSIONS, document
from tests.mutation import altered, mutated

_KEY_SET = key_set(rsa_jwk(kid="one"), ec_jwk(kid="two"), ed_jwk(), secret_jwk())
_IMAGE = {"width": 16, "height": 12}


class Fuzzer:
    """Checks numbered policies, and counts the compiled and rejected ones."""

    def __init__(self) -> None:
        self.compiled = 0
        self.rejected = 0
        self._valid = json.loads(_policy().model_dump_json())

    def check(self, number: int) -> None:
        """Read and compile a policy. Raises any exception that a worker does not expect."""
        try:
            compile_policy(PolicyDocument.model_validate_json(self._content(Random(number))))
        except ValueError:
            self.rejected += 1
        else:
            self.compiled += 1

    def _content(self, source: Random) -> bytes:
        policy = self._valid
        if source.random() < 0.3:
            keys = json.dumps(altered(json.loads(_KEY_SET), source)).encode()
            if source.random() < 0.5:
                keys = bytes(mutated(keys, source, [keys]))
            policy["auth"]["issuers"][0]["jwks"] = keys.decode("latin-1")
        else:
            policy["auth"]["issuers"][0]["jwks"] = _KEY_SET
            for _ in range(source.choice((1, 1, 2, 3))):
                policy = altered(policy, source)
        content = json.dumps(policy).encode()
        return bytes(mutated(content, source, [content])) if source.random() < 0.1 else content


def _policy() -> PolicyDocument:
    """A policy that has a value in most fields."""
    model = {
        "paths": ["/classify"],
        "type": "image",
        "websocket": True,
        "canaries": [{"version": "v2", "percent": 30, "model_types": ["text"]}],
        "claim_rules": [{"match": "prefix", "value": "v", "version": "v3"}],
        "bucket": {"header": "x-user"},
        "access": {"allow": [{"groups": ["vip"]}, {"subjects": ["bob"]}]},
        "versions": {**VERSIONS, "v1": {**VERSIONS["v1"], "protocol": "grpc"}},
        "inputs": [
            {"name": "t", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "i", "datatype": "UINT8", "shape": [-1, 12, 16, 3], "image": _IMAGE},
        ],
        "outputs": [{"name": "y", "labels": ["a", "b"], "top_k": 1}],
    }
    return document({"m": model}, auth={"issuers": [issuer(jwks=_KEY_SET)]})
