"""The bucket of a user: a number that decides which users get a canary by `percent`."""

import xxhash

from sluice.config.models import BUCKETS

_MAX_DIGITS = 40
"""Maximum digits of an integer id. Real ids are shorter, and `int` is slow for long texts."""


def bucket_of(identifier: bytes, hash_name: str) -> int | None:
    """The bucket of a user; None if the hash is `modulo` and the identifier is not a number.

    Envoy's WeightedCluster computes the same buckets as `xxh64` with use_hash_policy and a header
    hash_policy (source/common/router: xxHash64 with seed 0, modulo the total weight). If Envoy
    takes over this stage, every user stays in the same bucket.
    """
    if hash_name == "xxh64":
        return xxhash.xxh64_intdigest(identifier) % BUCKETS[hash_name]
    # int() would also accept blanks, signs and underscores.
    if not identifier.isdigit() or len(identifier) > _MAX_DIGITS:
        return None
    return int(identifier) % BUCKETS[hash_name]
