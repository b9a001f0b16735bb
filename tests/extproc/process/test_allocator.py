"""The workers' environment has settings of glibc's allocator."""

from extproc.process.allocator import SETTINGS, keep_freed_memory


def test_the_settings_of_the_operator_stay() -> None:
    environment = {"MALLOC_ARENA_MAX": "4"}
    keep_freed_memory(environment)
    assert environment == {**SETTINGS, "MALLOC_ARENA_MAX": "4"}


def test_tunables_of_the_operator_are_not_mixed_with_the_settings() -> None:
    environment = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}
    keep_freed_memory(environment)
    assert environment == {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}
