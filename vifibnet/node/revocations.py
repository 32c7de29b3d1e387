"""The revocation list as a node keeps it: the signed document, and what openvpn looks at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from vifibnet.errors import BadInput
from vifibnet.model.addresses import Prefix
from vifibnet.node.documents import KeptDocument
from vifibnet.pki.certificates import CA
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import RevocationList, parse_revocations

log = Logger()

RUN = Path("/run/vifibnet")
"""Where openvpn finds the serial numbers, each as an empty file, whatever the state directory's mode is: it
looks as nobody, and takes a directory that it may not enter for an empty one."""


def directory_of(state: Path, run: Path = RUN) -> Path:
    """The directory for ``--crl-verify`` of the node with this state directory."""
    return run / hashlib.sha256(bytes(state.absolute())).hexdigest()[:16]


def make_directories(*directories: Path) -> None:
    """Make directories, the outermost first, that openvpn may enter as nobody. Raises BadInput."""
    try:
        try:
            _make(directories)
        except FileNotFoundError:
            # Another node, which stops at this moment, has taken the outermost away.
            _make(directories)
    except OSError as error:
        problem = f"cannot be made ({error.strerror})"
        raise BadInput(directories[-1], problem, "let root write to /run") from None


def _make(directories: Sequence[Path]) -> None:
    for directory in directories:
        directory.mkdir(exist_ok=True)
        # Whatever the umask is.
        directory.chmod(0o755)


class RevocationFiles:
    """Keeps the list with the greatest number that the network's CA signed."""

    def __init__(
        self,
        state: Path,
        cas: Callable[[], Sequence[CA]],
        kept_cas: Callable[[], Sequence[CA]] | None = None,
        run: Path = RUN,
    ) -> None:
        """``cas()`` are the authorities that may sign the list, ``kept_cas()`` those that may have signed
        what an earlier run kept."""
        self._document = KeptDocument(Kind.REVOCATIONS, parse_revocations, state, cas, kept_cas)
        self._directory = directory_of(state, run)

    def open(self) -> None:
        """Take up what an earlier run kept. Raises BadInput where openvpn's directory cannot be made."""
        make_directories(self._directory.parent, self._directory)
        self._document.load()
        self._write_serials()

    def close(self) -> None:
        """Remove what only openvpn needs; the last node of this machine leaves nothing."""
        with suppress(OSError):
            for path in self._serials():
                path.unlink()
            self._directory.rmdir()
            self._directory.parent.rmdir()

    def _serials(self) -> list[Path]:
        """What is in the directory, without the one of the authorities."""
        return [path for path in self._directory.iterdir() if path.name.isdecimal()]

    @property
    def listed(self) -> RevocationList:
        """The list; an empty one as long as there is none."""
        return self._document.value or RevocationList()

    @property
    def number(self) -> int:
        """The list's number; 0 without one."""
        return self._document.number

    @property
    def data(self) -> bytes:
        """The signed document; empty without one."""
        return self._document.data

    def take(self, data: bytes) -> bool:
        """Keep this list if it is newer than ours; False if it is not. Raises BadDocument."""
        if not self._document.take(data):
            return False
        self._write_serials()
        return True

    def _write_serials(self) -> None:
        """Make openvpn's directory hold exactly the listed serial numbers, new ones first."""
        wanted = set(map(str, self.listed.serials))
        there = {path.name for path in self._serials()}
        try:
            for name in wanted - there:
                path = self._directory / name
                path.touch()
                path.chmod(0o644)
            for name in there - wanted:
                (self._directory / name).unlink()
        except OSError as error:
            log.error("{path} cannot be written: {error}", path=str(self._directory), error=error.strerror)

    # -- questions ----------------------------------------------------------------------------------------

    def nodes(self) -> frozenset[Prefix]:
        """The nodes that nobody is to have a tunnel with."""
        return self.listed.nodes

    def welcome(self, node: Prefix, serial: int | None) -> bool:
        """Whether a node that shows a certificate with this serial number (None: not known) may connect."""
        return node not in self.listed.nodes and serial not in self.listed.serials
