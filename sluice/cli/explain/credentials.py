"""Makes the credentials of an assumed caller, and a policy that accepts them.

The keys exist only in this process. The decision verifies the credentials as those of a client.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from extproc.policy.compiled import Policy, compile_policy
from sluice.cli.commands import CommandError, UsageError
from sluice.cli.explain.assumed import AssumedCaller
from sluice.config import ApiKey, Auth, JwtIssuer, PolicyDocument
from sluice.contract.headers import AUTHORIZATION
from sluice.explain.policy import ReadPolicy
from sluice.explain.request import HttpRequest
from sluice.keys.signing import generate, public_jwk, sign

LIFETIME = 300
"""Seconds of a token."""


def with_credentials(
    read: ReadPolicy, request: HttpRequest, assumed: AssumedCaller
) -> tuple[ReadPolicy, HttpRequest]:
    """The request with the credentials of the caller, and the policy that accepts them.

    Raises UsageError if the config has no such issuer or API key.
    """
    auth = read.document.auth
    if assumed.claims is not None:
        header, value, auth = _with_token(auth, assumed.claims)
    elif assumed.api_key is not None:
        header, value, auth = _with_api_key(auth, assumed.api_key)
    else:
        return read, request
    named = {name for name, _ in request.headers}
    if named & {AUTHORIZATION, auth.api_key_header}:
        raise UsageError(
            "the request has credentials already: remove -H, or --claims and --api-key"
        )
    changed = replace(request, headers=(*request.headers, (header, value.encode())))
    return replace(read, policy=_policy(read.document, auth)), changed


def _policy(document: PolicyDocument, auth: Auth) -> Policy:
    return compile_policy(document.model_copy(update={"auth": auth}))


def _with_token(auth: Auth, claims: Mapping[str, object]) -> tuple[str, str, Auth]:
    if not auth.issuers:
        raise UsageError("--claims: the config has no issuer")
    name = claims.get("iss", auth.issuers[0].issuer)
    issuer = next((each for each in auth.issuers if each.issuer == name), None)
    if issuer is None:
        known = ", ".join(each.issuer for each in auth.issuers)
        raise UsageError(f"--claims: iss must name an issuer of the config: {known[:200]}")
    key = generate("EdDSA")
    added = {"iss": issuer.issuer, "aud": issuer.audiences[0], "exp": int(time.time()) + LIFETIME}
    try:
        token = sign(key, {**added, **claims})
    except (TypeError, ValueError) as error:
        raise CommandError(f"--claims: no token can have these claims: {error}") from None
    accepted = _accepting(issuer, json.dumps({"keys": [public_jwk(key)]}))
    issuers = tuple(accepted if each is issuer else each for each in auth.issuers)
    return AUTHORIZATION, f"Bearer {token}", auth.model_copy(update={"issuers": issuers})


def _accepting(issuer: JwtIssuer, keys: str) -> JwtIssuer:
    changes = {"jwks": keys, "jwks_uri": None, "jwks_file": None, "algorithms": ("EdDSA",)}
    return issuer.model_copy(update=changes)


def _with_api_key(auth: Auth, name: str) -> tuple[str, str, Auth]:
    found = next((each for each in auth.api_keys if each.name == name), None)
    if found is None:
        raise UsageError("--api-key: auth.api_keys has no key with this name")
    secret = secrets.token_urlsafe()
    digest = hashlib.sha256(secret.encode()).hexdigest()
    keys: tuple[ApiKey, ...] = tuple(
        each.model_copy(update={"sha256": digest}) if each is found else each
        for each in auth.api_keys
    )
    return auth.api_key_header, secret, auth.model_copy(update={"api_keys": keys})
