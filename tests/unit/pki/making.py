"""Certificates for tests: a CA per key type, made once, and what it signs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.parameters import Values
from vifibnet.node.authorities import write_directory
from vifibnet.pki.authority import Authority, create_authority, create_successor, new_serial
from vifibnet.pki.certificates import CA, Identity, PrivateKey, ca_of
from vifibnet.pki.document import sign_document
from vifibnet.pki.requests import check_request, key_pem, make_key, make_request
from vifibnet.wire.document import Kind
from vifibnet.wire.parameters import format_parameters
from vifibnet.wire.revocation import Revoked, format_revocations

NETWORK = Network.parse("2001:db8:42::/48")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def key(key_type: str = "p256") -> PrivateKey:
    """A node's key, always the same one of its type: making RSA keys takes a while."""
    return _key(key_type)


_key = cache(make_key)


def authority(key_type: str = "p256", network: Network = NETWORK, days: int = 3650) -> Authority:
    """A network's CA, the same one for the same arguments."""
    return _authority(key_type, network, days)


@cache
def _authority(key_type: str, network: Network, days: int) -> Authority:
    key_data, pem = create_authority(network, now=NOW, key_type=key_type, days=days)
    return authority_of(key_data, pem)


def authority_of(key_data: bytes, pem: bytes) -> Authority:
    """A CA from its two PEM files."""
    private = load_pem_private_key(key_data, None)
    return Authority(ca_of(x509.load_pem_x509_certificate(pem), "test"), private)  # type: ignore[arg-type]


def successor(
    by: Authority, *, new_key: bool = True, days: float = 3650, wait: timedelta = DAY, now: datetime = NOW
) -> Authority:
    """The CA that follows on this one, and signs after ``wait``."""
    private = make_key() if new_key else by.key
    return Authority(create_successor(by.ca, private, days=days, signs_from=now + wait, now=now), private)


def request_pem(private: PrivateKey | None = None, *attributes: tuple[str, str]) -> str:
    """A node's request as it travels."""
    return make_request(private or key(), attributes).public_bytes(Encoding.PEM).decode()


def certificate(
    by: Authority | None = None,
    prefix: str = "5/16",
    private: PrivateKey | None = None,
    *,
    now: datetime = NOW,
    days: float = 365,
    attributes: tuple[tuple[str, str], ...] = (),
) -> x509.Certificate:
    """A node's certificate."""
    request = check_request(request_pem(private, *attributes))
    return (by or authority()).sign(request, Prefix.parse(prefix), new_serial(), now, days)


def identity(by: Authority | None = None, prefix: str = "5/16", **how: object) -> Identity:
    """A node with its certificate."""
    by = by or authority()
    made = certificate(by, prefix, **how)  # type: ignore[arg-type]
    return Identity(made, key(), CA(by.certificate, by.network, by.ca_pem), by.network, Prefix.parse(prefix))


def pem(made: x509.Certificate) -> bytes:
    """A certificate as in a file."""
    return made.public_bytes(Encoding.PEM)


def write_identity(directory: Path, node: Identity) -> tuple[Path, Path, Path]:
    """The three files of a node: ca.pem, cert.crt, cert.key."""
    paths = directory / "ca.pem", directory / "cert.crt", directory / "cert.key"
    for path, data in zip(paths, (node.ca.pem, pem(node.certificate), key_pem(node.key)), strict=True):
        path.write_bytes(data)
    paths[2].chmod(0o600)
    return paths


def trusted_directory(case: SynchronousTestCase, *cas: CA) -> Path:
    """What openvpn is to trust, in a directory that anybody may enter."""
    directory = Path(case.enterContext(TemporaryDirectory(prefix="vifibnet-")))
    directory.chmod(0o755)
    write_directory(directory, cas or [authority().ca])
    return directory


def openssl(line: str, *more: str, cwd: Path) -> str:
    """Run the real openssl with the words of ``line`` and ``more``; AssertionError if it fails."""
    arguments = [*line.split(), *more]
    done = run(["openssl", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"openssl {arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def parameters(by: Authority, number: int, values: Values) -> bytes:
    """The network's parameters, signed."""
    return sign_document(by, Kind.PARAMETERS, number, format_parameters(values))


def revocation_list(by: Authority, number: int, revoked: Iterable[Revoked]) -> bytes:
    """A signed revocation list."""
    return sign_document(by, Kind.REVOCATIONS, number, format_revocations(revoked))
