"""The directory that a new node's files go to."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from vifibnet.errors import BadInput


def check_directory(directory: Path) -> None:
    """Raise BadInput unless files can be made in ``directory``, which may have to be made itself."""
    what, remedy = f"--dir {directory}", "give a directory where you may write"
    if not str(directory).isprintable():
        raise BadInput("--dir", "a name with control characters cannot stand in vifibnet.conf", remedy)
    place = directory if directory.exists() else directory.parent
    if not place.is_dir():
        raise BadInput(what, f"{place} is not a directory", remedy)
    try:
        # Trying is the only way to know: root may do everything, and still cannot write everywhere.
        TemporaryFile(dir=place).close()
    except OSError as error:
        raise BadInput(what, f"nothing can be written in {place} ({error.strerror})", remedy) from None


def make_directory(directory: Path) -> None:
    """Make the directory if it is not there. Raises BadInput."""
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--dir {directory}", f"cannot be made ({error.strerror})", "give one where you may write"
        ) from None
