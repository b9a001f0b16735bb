"""A file that a process has open for writing is told from a complete file."""

from pathlib import Path

from xds.sources.written import FileState, file_state, is_being_written


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


def test_a_write_changes_the_state_and_a_rename_replaces_the_file(tmp_path: Path) -> None:
    file, draft = tmp_path / "file", tmp_path / "draft"
    file.write_text("one")
    first = file_state(file)
    file.write_text("three")
    written = file_state(file)
    assert written != first
    assert not written.is_replaced(first)
    draft.write_text("four")
    draft.replace(file)
    assert file_state(file).is_replaced(written)
    assert not file_state(file).is_linked_anew(written)


def test_another_target_of_a_link_is_a_replaced_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link = tmp_path / "link"
    link.symlink_to("one")
    before = file_state(link / "file")
    link.unlink()
    link.symlink_to("two")
    assert file_state(link / "file").is_linked_anew(before)


def test_a_missing_file_has_a_state(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert file_state(missing) == FileState(str(missing.resolve()))
