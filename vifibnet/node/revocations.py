"""The revocation list as a node keeps it: the signed document, and what openvpn looks at."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from vifibnet.errors import BadInput, BadRevocations
from vifibnet.model.addresses import Prefix
from vifibnet.pki.certificates import CA
from vifibnet.pki.files import write_atomically
from vifibnet.pki.revocation import read_revocations
from vifibnet.wire.revocation import MAX_DOCUMENT, RevocationList

log = Logger()

FILE = "revocations"
"""The document in the state directory."""

RUN = Path("/run/vifibnet")
"""Where openvpn finds the serial numbers, each as an empty file, whatever the state directory's mode is: it
looks as nobody, and takes a directory that it may not enter for an empty one."""


def directory_of(state: Path, run: Path = RUN) -> Path:
    """The directory for ``--crl-verify`` of the node with this state directory."""
    return run / hashlib.sha256(bytes(state.absolute())).hexdigest()[:16]


class RevocationFiles:
    """Keeps the list with the greatest number that the network's CA signed.

    ``listed`` is that list, None as long as there is none.
    """

    def __init__(self, state: Path, ca: CA, run: Path = RUN) -> None:
        self._path = state / FILE
        self._directory = directory_of(state, run)
        self._ca = ca
        self.listed: RevocationList | None = None

    def open(self) -> None:
        """Take up what an earlier run kept. Raises BadInput where openvpn's directory cannot be made."""
        try:
            for directory in (self._directory.parent, self._directory):
                directory.mkdir(exist_ok=True)
                # Whatever the umask is.
                directory.chmod(0o755)
        except OSError as error:
            raise BadInput(
                self._directory, f"cannot be made ({error.strerror})", "let root write to /run"
            ) from None
        self.listed = self._read()
        self._write_serials()

    def close(self) -> None:
        """Remove what only openvpn needs."""
        with suppress(OSError):
            for path in self._directory.iterdir():
                path.unlink()
            self._directory.rmdir()

    @property
    def number(self) -> int:
        """The list's number; 0 without one."""
        return 0 if self.listed is None else self.listed.number

    def take(self, document: bytes) -> bool:
        """Keep this list if it is newer than ours; False if it is not.

        It holds from now on, also where the disk is full. Raises BadRevocations where it is none of the
        network's.
        """
        listed = read_revocations(document, self._ca)
        if listed.number <= self.number:
            return False
        self.listed = listed
        self._write_serials()
        try:
            write_atomically(self._path, document, overwrite=True)
        except BadInput as error:
            log.error("{error}", error=str(error))
        return True

    def _read(self) -> RevocationList | None:
        """What the state directory holds; a damaged file is as good as none: a list can be fetched."""
        try:
            with self._path.open("rb") as stream:
                return read_revocations(stream.read(MAX_DOCUMENT + 1), self._ca)
        except FileNotFoundError:
            return None
        except (OSError, BadRevocations) as error:
            log.warn("{path} is of no use: {error}", path=str(self._path), error=str(error))
            return None

    def _write_serials(self) -> None:
        """Make openvpn's directory hold exactly the listed serial numbers, new ones first."""
        wanted = {str(serial) for serial in self.listed.serials} if self.listed else set()
        there = {path.name for path in self._directory.iterdir()}
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
        return self.listed.nodes if self.listed else frozenset()

    def welcome(self, node: Prefix, serial: int | None) -> bool:
        """Whether a node that shows a certificate with this serial number (None: not known) may connect."""
        return self.listed is None or (node not in self.listed.nodes and serial not in self.listed.serials)
