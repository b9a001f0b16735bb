"""Writes files: private ones, and ones that another process watches."""

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def create_private(path: Path, content: bytes) -> None:
    """Create a file that only this user can read (0600). Its folders are private too (0700).

    Raises FileExistsError if the file exists, and OSError if it cannot be written.
    """
    _create_folders(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        path.unlink()
        raise


def replace_file(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file in one step, so that a process that watches it never reads a part of it.

    `private`: only this user can read it (0600). A file with this content already is left alone.
    Raises OSError, also if the path is not that of a file.
    """
    if _has_content(path, content):
        return
    _create_folders(path.parent)
    try:
        _write_and_rename(path, content, 0o600 if private else 0o644)
    except OSError as error:
        # The user does not know the name of the temporary file.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_and_rename(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary = Path(name)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def _has_content(path: Path, content: bytes) -> bool:
    """Whether the file has this content. Raises OSError if the path is not that of a file.

    A pipe would block, and a device, such as /dev/null, must not be replaced by a file.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    try:
        return status.st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _create_folders(folder: Path) -> None:
    """Create the missing folders. `Path.mkdir` would create parents with the default mode."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def write_error(error: OSError) -> str:
    """What an OSError of writing a file says to a user: the path, the reason and a remedy."""
    if error.filename is None:
        return error.strerror or str(error)
    path = Path(os.fsdecode(error.filename)).absolute()
    text = f"cannot write {path}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{text}; choose a folder that you can write"
    return text
