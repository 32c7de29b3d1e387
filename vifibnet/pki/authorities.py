"""What a registry signs with: its network's authorities, of which one follows another while it runs.

The file of ``--ca`` holds all that count, the newest first, that of ``--key`` their keys. When one follows,
all nodes have to know it before the first of them shows a certificate of it; the old one signs until then. As
long as the old one counts there may be nodes that know no other: so the registry shows a certificate of the
oldest one, and has its documents signed by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vifibnet.errors import BadInput
from vifibnet.files import write_atomically
from vifibnet.model.addresses import Network
from vifibnet.pki.authority import Authority, create_successor
from vifibnet.pki.certificates import (
    CA,
    PrivateKey,
    belongs,
    check_valid,
    fingerprint,
    in_force,
    load_cas,
    load_keys,
    newest_first,
    signing,
)
from vifibnet.pki.requests import key_pem, make_key


class Authorities:
    """A network's CAs, the newest first, and their keys; one that has expired needs no key."""

    def __init__(
        self, cas: Iterable[CA], keys: Iterable[PrivateKey], files: tuple[Path, Path] | None = None
    ) -> None:
        """``files`` are those of ``--ca`` and ``--key``; None: nothing is written."""
        self.cas = newest_first(cas)
        self.files = files
        self._keys = tuple(keys)

    @classmethod
    def of(cls, authority: Authority) -> Authorities:
        """One alone, which is in no file."""
        return cls([authority.ca], [authority.key])

    @classmethod
    def load(cls, ca_path: Path | str, key_path: Path | str, now: datetime) -> Authorities:
        """Read the files of ``--ca`` and ``--key``.

        Raises BadInput, naming option and file, unless the serial numbers hold one network, one CA signs at
        ``now`` (aware), and there is a key for every CA that is valid.
        """
        files = Path(ca_path).resolve(), Path(key_path).resolve()
        loaded = cls(load_cas(ca_path, "--ca"), load_keys(key_path, "--key"), files)
        now_signing = signing(loaded.cas, now)
        remedy = "make a new authority with vifibnet ca"
        check_valid(now_signing.certificate, f"--ca {ca_path}", now, remedy)
        for ca in in_force(loaded.cas, now):
            if not any(belongs(key, ca.certificate) for key in loaded._keys):
                which = f"--ca {ca_path}"
                if len(loaded.cas) > 1:
                    which = f"the authority {fingerprint(ca.certificate)} in {which}"
                problem = f"is not the key of {which}"
                raise BadInput(f"--key {key_path}", problem, "give the key made with it")
        return loaded

    @property
    def network(self) -> Network:
        """The network of all of them."""
        return self.cas[0].network

    @property
    def newest(self) -> CA:
        """The one that lasts, though it may not sign yet."""
        return self.cas[0]

    def signing(self, now: datetime) -> Authority:
        """What nodes' certificates are signed with."""
        return self._with_key(signing(self.cas, now))

    def in_force(self, now: datetime) -> list[Authority]:
        """All that count at ``now``, the newest first; that one even when it has expired."""
        return [self._with_key(ca) for ca in in_force(self.cas, now) or self.cas[:1]]

    def known(self, now: datetime) -> Authority:
        """The one that every node knows: the oldest that counts."""
        return self.in_force(now)[-1]

    def _with_key(self, ca: CA) -> Authority:
        return Authority(ca, next(key for key in self._keys if belongs(key, ca.certificate)))

    # -- one follows another --------------------------------------------------------------------------

    def follow(self, *, new_key: bool, days: float, signs_from: datetime, now: datetime) -> CA:
        """Make the CA that follows on the newest one. Raises BadInput where a file cannot be written."""
        old = self._with_key(self.newest)
        key = make_key(_type_of(old.key)) if new_key else old.key
        made = create_successor(old.ca, key, days=days, signs_from=signs_from, now=now)
        keys = (key, *self._keys) if new_key else self._keys
        # The key first: a registry that is started between the two files has a key too many, not too few.
        if new_key:
            self._write_keys(keys)
        self._write_cas((made, *self.cas))
        self.cas, self._keys = (made, *self.cas), keys
        return made

    def drop(self, dropped: Sequence[CA]) -> None:
        """Forget CAs that count no more, and their keys. Raises BadInput where a file cannot be written."""
        cas = tuple(ca for ca in self.cas if ca not in dropped)
        keys = tuple(key for key in self._keys if any(belongs(key, ca.certificate) for ca in cas))
        self._write_cas(cas)
        self.cas = cas
        if keys != self._keys:
            self._write_keys(keys)
            self._keys = keys

    def _write_cas(self, cas: Sequence[CA]) -> None:
        if self.files is not None:
            write_atomically(self.files[0], b"".join(ca.pem for ca in cas), overwrite=True)

    def _write_keys(self, keys: Sequence[PrivateKey]) -> None:
        if self.files is not None:
            write_atomically(self.files[1], b"".join(map(key_pem, keys)), 0o600, overwrite=True)


def _type_of(key: PrivateKey) -> str:
    """The KEY_TYPES name of a key's type."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "rsa"
    return "p256" if isinstance(key, ec.EllipticCurvePrivateKey) else "ed25519"
