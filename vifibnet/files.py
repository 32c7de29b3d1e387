"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vifibnet.errors import BadInput

_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class NewFile:
    """What is to be written where; the ``data`` may be a secret, so it stays out of the repr."""

    path: Path
    data: bytes = field(repr=False)
    mode: int = 0o644


def write_atomically(
    path: Path | str,
    data: bytes,
    mode: int = 0o644,
    overwrite: bool = False,
) -> None:
    """Write one file so that whoever opens it sees all of ``data`` or what was there before.

    ``mode`` holds from the first byte on, whatever the umask. Raises BadInput naming the file when
    it exists (unless ``overwrite``) or cannot be written.
    """
    write_together([NewFile(Path(path), data, mode)], overwrite=overwrite)


def write_together(files: Sequence[NewFile], *, overwrite: bool = False) -> None:
    """Write several files, or none of them when one cannot be written.

    All of them are on disk under temporary names before the first appears under its own. Raises
    BadInput naming the file at fault.
    """
    if not overwrite:
        for new in files:
            if os.path.lexists(new.path):
                raise _exists(new.path)
    with contextlib.ExitStack() as stack:
        temporaries = [stack.enter_context(_temporary(new)) for new in files]
        appeared: list[Path] = []
        try:
            for new, temporary in zip(files, temporaries, strict=True):
                with _errors_name(new.path):
                    _appear(temporary, new.path, overwrite)
                appeared.append(new.path)
        except BaseException:
            # With overwrite the former content is gone: half new is then better than half missing.
            for path in appeared if not overwrite else []:
                path.unlink(missing_ok=True)
            raise
    for directory in {new.path.parent for new in files}:
        # Not every file system can.
        with contextlib.suppress(OSError):
            sync(directory)


@contextlib.contextmanager
def _temporary(new: NewFile) -> Iterator[Path]:
    """The file's data under another name in the same directory, gone at the end in any case."""
    temporary = new.path.with_name(f".{new.path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with _errors_name(new.path):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, new.mode)
                stream.write(new.data)
                stream.flush()
                os.fsync(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _appear(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give the temporary file its name."""
    if overwrite:
        temporary.replace(path)
        return
    try:
        # Unlike rename, link fails when another process has made the file meanwhile.
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.rename(path)


@contextlib.contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Turn what the system says into a sentence about this file."""
    try:
        yield
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise BadInput(
            path,
            f"cannot be written ({error.strerror})",
            "give a directory that exists and where you may write",
        ) from error


def _exists(path: Path) -> BadInput:
    return BadInput(path, "exists already", "move it away or give another path")


def sync(path: Path) -> None:
    """Make a file's content, or the names in a directory, survive a power failure. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
