"""Detects whether a process has a file open for writing."""

from pathlib import Path

from xds.sources.written import (
    LONG_QUIET,
    MAX_OPEN,
    QUIET,
    FileState,
    file_state,
    is_being_written,
    needed_quiet,
)


def test_a_file_is_being_written_while_a_writer_has_it_open(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w"):
        assert is_being_written(file) is True
    with file.open("a"):
        assert is_being_written(file) is True
    assert is_being_written(file) is False
    with file.open():
        assert is_being_written(file) is False


def test_nothing_is_known_about_the_writers_of_what_is_no_file(tmp_path: Path) -> None:
    assert is_being_written(tmp_path / "missing") is None
    assert is_being_written(tmp_path) is None
    assert is_being_written(Path("a\0b")) is None


def test_a_file_that_was_changed_in_place_must_be_quiet(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    before = file_state(file)
    file.write_text("three")
    state = file_state(file)
    assert state != before
    assert needed_quiet(state, before, written=False) == QUIET
    assert needed_quiet(state, before, written=None) == LONG_QUIET
    assert needed_quiet(state, before, written=True) == MAX_OPEN


def test_a_file_that_was_replaced_is_complete_unless_it_may_have_a_writer(tmp_path: Path) -> None:
    file, draft = tmp_path / "file", tmp_path / "draft"
    file.write_text("one")
    before = file_state(file)
    draft.write_text("two")
    draft.replace(file)
    state = file_state(file)
    assert needed_quiet(state, before, written=False) == 0
    assert needed_quiet(state, None, written=False) == 0
    assert needed_quiet(state, before, written=None) == QUIET
    assert needed_quiet(state, before, written=True) == MAX_OPEN


def test_another_target_of_a_link_is_a_complete_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link = tmp_path / "link"
    link.symlink_to("one")
    before = file_state(link / "file")
    link.unlink()
    link.symlink_to("two")
    assert needed_quiet(file_state(link / "file"), before, written=None) == 0


def test_a_missing_file_has_a_state(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert file_state(missing) == FileState(str(missing.resolve()))
