"""The authorities that a node trusts: those in its ``--ca`` file, and what follows on them.

The registry's document names all that count; a node keeps it, and writes the file anew: so it starts with the
registry gone, and the file is right for whoever reads it. Openvpn looks into a directory whenever somebody
shows a certificate: no process has to be started anew to trust another authority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from OpenSSL.crypto import X509
from twisted.logger import Logger

from vifibnet.errors import BadDocument, BadInput
from vifibnet.files import write_atomically
from vifibnet.interfaces import IRegistry
from vifibnet.node.documents import KeptDocument
from vifibnet.node.revocations import RUN, directory_of, make_directories
from vifibnet.pki.certificates import CA, fingerprint, in_force, load_cas, newest_first, signing
from vifibnet.pki.document import authorities_in
from vifibnet.wire.document import Kind

log = Logger()

DIRECTORY = "ca"
"""The directory for openvpn, in the one that it has for revoked certificates."""


def ca_directory_of(state: Path, run: Path = RUN) -> Path:
    """The directory for ``--capath`` of the node with this state directory."""
    return directory_of(state, run) / DIRECTORY


def vouched_for(state: Path, trusted: Sequence[CA]) -> tuple[CA, ...]:
    """What these, which are in the ``--ca`` file, vouched for in an earlier run."""
    kept = _document(state, trusted, lambda: trusted)
    kept.load()
    return kept.value or ()


def _document(
    state: Path, trusted: Sequence[CA], *cas: Callable[[], Sequence[CA]]
) -> KeptDocument[tuple[CA, ...]]:
    parse = partial(authorities_in, trusted[0].network)
    return KeptDocument(Kind.AUTHORITIES, parse, state, *cas)


def write_directory(directory: Path, cas: Sequence[CA]) -> None:
    """Make a directory hold exactly these CAs, named as OpenSSL looks for them: by the hash of the subject,
    and a number. Raises OSError."""
    wanted: dict[str, bytes] = {}
    for ca in cas:
        name = f"{X509.from_cryptography(ca.certificate).subject_name_hash():08x}"
        wanted[f"{name}.{sum(other.startswith(name) for other in wanted)}"] = ca.pem
    for name, pem in wanted.items():
        if not (directory / name).exists() or (directory / name).read_bytes() != pem:
            write_atomically(directory / name, pem, overwrite=True)
    for path in directory.iterdir():
        if path.name not in wanted:
            path.unlink()


class Authorities:
    """Keeps the network's authorities (a Keeper: see node.documents)."""

    kind = Kind.AUTHORITIES

    def __init__(
        self, calendar: Callable[[], float], state: Path, file: Path, trusted: Sequence[CA], run: Path = RUN
    ) -> None:
        """``calendar`` tells Unix time. ``file`` is that of ``--ca``; ``trusted`` is what it holds, and what
        that vouched for before."""
        self._calendar = calendar
        self._all = newest_first(trusted)
        self._file = file
        self._directory = ca_directory_of(state, run)
        self._document = _document(state, self._all, self.cas, self.known)

    def open(self) -> None:
        """Take up what an earlier run kept. Raises BadInput where openvpn's directory cannot be made."""
        make_directories(self._directory.parent.parent, self._directory.parent, self._directory)
        self._document.load()
        self._write_directory()

    def close(self) -> None:
        """Remove what only openvpn needs."""
        with suppress(OSError):
            for path in self._directory.iterdir():
                path.unlink()
            self._directory.rmdir()

    # -- questions ----------------------------------------------------------------------------------------

    def known(self) -> tuple[CA, ...]:
        """All of them, the newest first, also those that have expired."""
        return self._all

    def cas(self) -> tuple[CA, ...]:
        """Those that are valid."""
        return in_force(self._all, self._now)

    def signing(self) -> CA:
        """The one that signs certificates now."""
        return signing(self._all, self._now)

    @property
    def number(self) -> int:
        """The document's number; 0 without one."""
        return self._document.number

    @property
    def data(self) -> bytes:
        """The document, signed; empty without one."""
        return self._document.data

    # -- the document -------------------------------------------------------------------------------------

    async def ask(self, registry: IRegistry) -> None:
        """Ask whether there are others. Raises RegistryUnreachable and a RegistryRefusal."""
        data = await registry.document(self.kind, self.number)
        try:
            if data is not None:
                self.take(data)
        except BadDocument as error:
            log.error("the registry hands out authorities that are none: {error}", error=str(error))

    def take(self, data: bytes) -> None:
        """Here is the document. Raises BadDocument where it is none of the network's."""
        before = self._all
        if not self._document.take(data):
            return
        self._all = self._document.value or before
        log.info(
            "authorities {number}: {count}, {new} of them new: {seals}",
            number=self.number,
            count=len(self._all),
            new=len(set(self._all) - set(before)),
            seals=", ".join(fingerprint(ca.certificate)[:17] for ca in self._all),
        )
        self._write_directory()
        self._write_file()

    def _write_file(self) -> None:
        """The operator's file, as vifibnet setup would write it today."""
        try:
            if set(load_cas(self._file, "--ca")) != set(self._all):
                data = b"".join(ca.pem for ca in self._all)
                write_atomically(self._file.resolve(), data, overwrite=True)
        except BadInput as error:
            log.error("{error}", error=str(error))

    def _write_directory(self) -> None:
        try:
            write_directory(self._directory, self._all)
        except (OSError, BadInput) as error:
            log.error("{path} cannot be written: {error}", path=str(self._directory), error=str(error))

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._calendar(), UTC)
