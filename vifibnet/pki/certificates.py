"""Reading certificates and keys from files, and refusing what cannot work before anything starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from vifibnet.errors import BadAddress, BadInput
from vifibnet.model.addresses import Network, Prefix

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""The keys that vifibnet works with."""

MAX_FILE = 1 << 20
"""No certificate or key is larger, in bytes; whatever is, was given by mistake."""

MIN_RSA_BITS = 2048
"""OpenSSL's security level 2, Debian's default, takes no shorter RSA key."""

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", re.DOTALL)

UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What cryptography raises where the bytes are not what they should be."""


@dataclass(frozen=True)
class CA:
    """A network's certificate authority as everybody may see it; ``pem`` is the certificate alone.

    A network may have several at a time.
    """

    certificate: x509.Certificate
    network: Network
    pem: bytes

    @property
    def signs_from(self) -> datetime:
        """When it begins to sign certificates: one that follows another waits until all nodes know it."""
        try:
            period = self.certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
        except x509.ExtensionNotFound:
            return self.certificate.not_valid_before_utc
        return (period.not_before or self.certificate.not_valid_before_utc).replace(tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """When it expires."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True)
class Identity:
    """A node: its certificate and key, the CA that signed it, and where that puts it.

    ``others`` are the network's other CAs that its ``--ca`` names.
    """

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    ca: CA
    network: Network
    prefix: Prefix
    others: tuple[CA, ...] = ()

    @property
    def cas(self) -> tuple[CA, ...]:
        """All CAs that it trusts."""
        return (self.ca, *self.others)

    @classmethod
    def load(
        cls,
        ca: Path | str,
        cert: Path | str,
        key: Path | str,
        now: datetime,
        *,
        renewing: bool = False,
        vouched: Callable[[Sequence[CA]], Iterable[CA]] = lambda _: (),
    ) -> Identity:
        """Read the three files of ``--ca``, ``--cert`` and ``--key``.

        Others, which ``vouched`` gives for those in ``--ca``, are trusted as well.

        Raises BadInput, naming option and file, unless the three belong together, are valid at
        ``now`` (aware) and say which node of which network this is. Who is ``renewing`` may have a
        certificate that has expired.
        """
        given = load_cas(ca, "--ca")
        trusted = newest_first([*given, *vouched(given)])
        certificate = load_certificate(cert, "--cert")
        private = load_key(key, "--key")
        what = f"--cert {cert}"
        enrol = "give the certificate that vifibnet setup fetched for this key"
        authority = signer(certificate, trusted)
        if authority is None:
            raise BadInput(what, f"is not signed by the authority in --ca {ca}", enrol)
        if not belongs(private, certificate):
            raise BadInput(f"--key {key}", f"is not the key of --cert {cert}", "give the key made with it")
        prefix = _prefix_in(certificate, what)
        try:
            authority.network.subnet(prefix)
        except BadAddress:
            raise BadInput(
                what, f"its prefix {prefix} leaves no address in the network {authority.network}", enrol
            ) from None
        if not in_force(trusted, now):
            remedy = "fetch the new one with vifibnet setup --ca-only"
            check_valid(authority.certificate, f"--ca {ca}", now, remedy)
        renewable = renewing and now > certificate.not_valid_after_utc
        if not renewable:
            remedy = "give --server, so that the registry can renew it, or get a new one with vifibnet setup"
            check_valid(certificate, what, now, remedy)
        others = tuple(ca for ca in trusted if ca is not authority)
        return cls(certificate, private, authority, authority.network, prefix, others)


def load_certificate(path: Path | str, option: str) -> x509.Certificate:
    """Read a PEM file with one certificate. Raises BadInput naming ``option`` and the file."""
    what = f"{option} {path}"
    certificates = _certificates(path, what)
    if len(certificates) > 1:
        raise BadInput(what, f"holds {len(certificates)} certificates", "give a PEM file with exactly one")
    return certificates[0]


def _certificates(path: Path | str, what: str) -> list[x509.Certificate]:
    data = _read(path, what)
    try:
        certificates = x509.load_pem_x509_certificates(data)
        for certificate in certificates:
            certificate.public_key()
            _ = certificate.subject, certificate.issuer, certificate.extensions
    except UNREADABLE:
        certificates = []
    if not certificates:
        raise BadInput(what, "holds no certificate that can be read", "give a PEM file with one certificate")
    return certificates


def load_key(path: Path | str, option: str) -> PrivateKey:
    """Read a PEM file with an unencrypted private key. Raises BadInput naming ``option`` and the file."""
    what = f"{option} {path}"
    return _key_in(_read(path, what), what)


def load_keys(path: Path | str, option: str) -> list[PrivateKey]:
    """Read a PEM file with one or more such keys. Raises BadInput naming ``option`` and the file."""
    what = f"{option} {path}"
    data = _read(path, what)
    return [_key_in(block, what) for block in _KEY.findall(data)] or [_key_in(data, what)]


def _key_in(data: bytes, what: str) -> PrivateKey:
    remedy = "give a PEM file with an unencrypted RSA, EC or Ed25519 private key"
    if b"ENCRYPTED" in data:
        raise BadInput(what, "is encrypted", remedy)
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except UNREADABLE:
        raise BadInput(what, "holds no private key that can be read", remedy) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise BadInput(what, "is a key of a kind that vifibnet does not use", remedy)
    return key


def load_ca(path: Path | str, option: str) -> CA:
    """Read a network's CA certificate. Raises BadInput naming ``option`` and the file."""
    return ca_of(load_certificate(path, option), f"{option} {path}")


def load_cas(path: Path | str, option: str) -> tuple[CA, ...]:
    """Read all CA certificates of a network, the newest first.

    Raises BadInput naming ``option`` and the file, also where they are of several networks.
    """
    what = f"{option} {path}"
    cas = newest_first(ca_of(certificate, what) for certificate in _certificates(path, what))
    networks = {str(ca.network) for ca in cas}
    if len(networks) > 1:
        problem = f"holds authorities of several networks: {', '.join(sorted(networks))}"
        raise BadInput(what, problem, "give those of one network only")
    return cas


def newest_first(cas: Iterable[CA]) -> tuple[CA, ...]:
    """CAs in the order in which they begin to sign, the last one first, each once."""
    return tuple(sorted(dict.fromkeys(cas), key=lambda ca: ca.signs_from, reverse=True))


def in_force(cas: Iterable[CA], now: datetime) -> tuple[CA, ...]:
    """Those of the CAs that are valid at ``now``."""
    return tuple(ca for ca in cas if ca.certificate.not_valid_before_utc <= now <= ca.end)


def signing(cas: Sequence[CA], now: datetime) -> CA:
    """The one of the CAs (newest first) that signs certificates at ``now``."""
    return next((ca for ca in cas if ca.signs_from <= now), cas[-1])


def signer(certificate: x509.Certificate, cas: Iterable[CA]) -> CA | None:
    """The one of the CAs that signed this certificate; None if it is a stranger's."""
    return next((ca for ca in cas if is_signed_by(certificate, ca.certificate)), None)


def ca_of(certificate: x509.Certificate, what: str) -> CA:
    """Take a certificate as a network's CA; ``what`` names it in the BadInput that is raised if it is none.

    A CA made by the manual's own openssl line is as good as one of ``vifibnet ca``.
    """
    remedy = "vifibnet ca --network 2001:db8:42::/48 makes such an authority"
    try:
        network = Network.from_serial(certificate.serial_number)
    except BadAddress:
        serial = f"{certificate.serial_number:#x}"
        raise BadInput(what, f"its serial number {serial} holds no IPv6 network", remedy) from None
    if not is_signed_by(certificate, certificate):
        raise BadInput(what, "is not signed by its own key", remedy)
    if not _may_sign(certificate):
        raise BadInput(what, "is not marked as a certificate authority", remedy)
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise BadInput(what, f"its RSA key has {key.key_size} bits, too few for OpenSSL's default", remedy)
    return CA(certificate, network, certificate.public_bytes(serialization.Encoding.PEM))


def check_valid(certificate: x509.Certificate, what: str, now: datetime, remedy: str) -> None:
    """Raise BadInput unless ``now`` (aware) lies within the certificate's time."""
    if now < certificate.not_valid_before_utc:
        when = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise BadInput(what, f"is not valid before {when}", "set this machine's clock or wait")
    if now > certificate.not_valid_after_utc:
        when = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise BadInput(what, f"expired on {when}", remedy)


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer``'s key signed this certificate in ``issuer``'s name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def belongs(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Whether this is the private key of the certificate."""
    return key.public_key() == certificate.public_key()


def prefix_of(certificate: x509.Certificate) -> Prefix:
    """The prefix in the certificate's CN. Raises BadAddress where there is none."""
    names = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1:
        raise BadAddress(text=", ".join(names), wanted="one common name that is a prefix such as 5/16")
    return Prefix.parse(names[0])


def fingerprint(certificate: x509.Certificate) -> str:
    """The certificate's SHA-256 as ``ab:cd:…``, 32 bytes in lower case."""
    return certificate.fingerprint(hashes.SHA256()).hex(":")


def normal_fingerprint(text: str) -> str:
    """Write a fingerprint as ``fingerprint`` does, from that or from what openssl and people write.

    Raises BadInput naming ``--fingerprint``.
    """
    digits = re.sub(r"(?i)^\s*(sha-?256\s*)?(fingerprint)?\s*[=:]?", "", text)
    digits = re.sub(r"[\s:]", "", digits).lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits) is None:
        raise BadInput(
            f"--fingerprint {text[:120]}",
            "is not a SHA-256 fingerprint",
            "give the 64 hexadecimal digits that vifibnet ca printed",
        )
    return bytes.fromhex(digits).hex(":")


def _prefix_in(certificate: x509.Certificate, what: str) -> Prefix:
    try:
        return prefix_of(certificate)
    except BadAddress as error:
        raise BadInput(
            what, f"its common name says no prefix: {error}"[:-1], "it is no node's certificate"
        ) from None


def _may_sign(certificate: x509.Certificate) -> bool:
    """Whether the extensions let this certificate sign others; openssl writes no key usage."""
    try:
        if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid
    except UNREADABLE:
        return False


def _read(path: Path | str, what: str) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise BadInput(
            what, f"cannot be read ({error.strerror})", "give a file that exists and can be read"
        ) from None
    if len(data) > MAX_FILE:
        raise BadInput(what, "is larger than 1 MiB", "give a PEM file")
    return data
