"""A private key that replaces another one together with its certificate: two files, of which every moment
has a pair.

The new key waits beside the old one, as KEY.new, from before the registry hears of it. Then the certificate
is replaced, then the key. Between these two the certificate fits the waiting key alone: whoever finds it like
that after a crash puts the key in its place.
"""

from __future__ import annotations

from pathlib import Path

from vifibnet.errors import BadInput
from vifibnet.files import sync, write_atomically
from vifibnet.pki.certificates import PrivateKey, belongs, load_certificate, load_key
from vifibnet.pki.requests import key_pem, key_type, make_key


def waiting(key: Path) -> Path:
    """The file of the key that is to replace the one in this file."""
    return key.with_name(f"{key.name}.new")


def prepare(file: Path, old: PrivateKey) -> PrivateKey:
    """A key of the old one's type, on the disk. Raises BadInput. Takes a second for RSA.

    What an earlier try left is used again, for the registry may have made its certificate already.
    """
    path, kind = waiting(file), key_type(old)
    try:
        left = load_key(path, "file")
        if key_type(left) == kind:
            return left
    except BadInput:
        pass
    made = make_key(kind)
    write_atomically(path, key_pem(made), 0o600, overwrite=True)
    return made


def take(file: Path) -> None:
    """Put the waiting key in its place; its certificate is in its own. Raises BadInput."""
    try:
        waiting(file).replace(file)
        sync(file.parent)
    except OSError as error:
        raise BadInput(file, f"cannot be written ({error.strerror})", "see to its directory") from None


def settle(certificate: Path, file: Path) -> None:
    """Finish what a crash left. What is wrong otherwise is for others to say."""
    try:
        ours = load_certificate(certificate, "file")
        finished = belongs(load_key(file, "file"), ours)
        if finished or not belongs(load_key(waiting(file), "file"), ours):
            return
    except BadInput:
        return
    take(file)
