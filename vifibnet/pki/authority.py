"""The network's certificate authority: made once, then signing what the registry tells it to."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv6Network, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vifibnet.errors import AuthorityExpired, BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.certificates import CA, PrivateKey, belongs, ca_of, check_valid, load_ca, load_key
from vifibnet.pki.requests import attribute, key_pem, make_key, signature_hash
from vifibnet.wire.amp import REGISTRY_NAME
from vifibnet.wire.endpoints import is_host

CLOCK_SKEW = timedelta(hours=1)
"""Certificates are valid since an hour ago: a node whose clock is late could not use a newer one."""

NODE_DAYS = 365
"""How long a node's certificate lives unless told otherwise."""

_COUNT = NameOID.DN_QUALIFIER
"""Tells the subjects of a network's CAs apart: the second has a 2, the first none."""

_SPECIAL = (IPv6Network("::/8"), IPv6Network("fe80::/10"), IPv6Network("ff00::/8"))
"""Unspecified, loopback and IPv4-mapped; link-local; multicast (RFC 4291)."""


def new_serial() -> int:
    """A random serial number of exactly 127 bits: it fits 16 bytes, and no network's serial is as long."""
    return 1 << 126 | secrets.randbits(126)


def create_authority(
    network: Network,
    *,
    name: str | None = None,
    email: str | None = None,
    days: float = 3650,
    now: datetime,
    key_type: str = "p256",
) -> tuple[bytes, bytes]:
    """Make a network's CA: its key and its self-signed certificate, both as PEM.

    The network is the serial number (the manual's ``-set_serial``); ``now`` is aware. Raises BadInput
    naming the option of ``vifibnet ca`` that is wrong.
    """
    if any(network.ip_network.overlaps(special) for special in _SPECIAL):
        raise BadInput(
            f"--network {network}",
            "overlaps addresses that no host can have on a network",
            "give a part of your own prefix, or a random one from fd00::/8 (RFC 4193)",
        )
    key = make_key(key_type)
    attributes = [attribute("CN", name or f"vifibnet {network}", f"--name {name}")]
    if email:
        attributes.append(attribute("emailAddress", email, f"--email {email}"))
    subject, end = x509.Name(attributes), now + timedelta(days=days)
    builder = _self_signed(subject, network, key, now - CLOCK_SKEW, end)
    certificate = builder.sign(key, signature_hash(key))
    return key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def _self_signed(
    subject: x509.Name, network: Network, key: PrivateKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    """What all certificates of CAs have in common."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(network.serial)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def create_successor(ca: CA, key: PrivateKey, *, days: float, signs_from: datetime, now: datetime) -> CA:
    """Make the CA that follows on another one: for the same network, with the same key or a new one.

    Its subject is the other's with another number (dnQualifier), for OpenSSL finds one certificate to a
    subject. That it does not sign before ``signs_from`` stands in it (privateKeyUsagePeriod), so that
    everybody can see it, and nobody has to keep it elsewhere.
    """
    old = ca.certificate.subject
    count = max(
        (int(n) for a in old.get_attributes_for_oid(_COUNT) if (n := str(a.value)).isdecimal()), default=1
    )
    kept = [rdn for rdn in old.rdns if all(each.oid != _COUNT for each in rdn)]
    own = x509.RelativeDistinguishedName([x509.NameAttribute(_COUNT, str(count + 1))])
    # Never at the same second: by that, too, they are told apart.
    begin = max(now - CLOCK_SKEW, ca.certificate.not_valid_before_utc + timedelta(seconds=1))
    end = now + timedelta(days=days)
    builder = _self_signed(x509.Name([*kept, own]), ca.network, key, begin, end).add_extension(
        x509.PrivateKeyUsagePeriod(signs_from.replace(microsecond=0), None), critical=False
    )
    return ca_of(builder.sign(key, signature_hash(key)), "the new authority")


@dataclass(frozen=True)
class Authority:
    """A CA with its key: what the registry signs with."""

    ca: CA
    key: PrivateKey = field(repr=False)

    @classmethod
    def load(cls, ca_path: Path | str, key_path: Path | str, now: datetime) -> Authority:
        """Read the files of ``--ca`` and ``--key``.

        Raises BadInput, naming option and file, unless the two belong together, are valid at ``now``
        (aware) and the serial number holds a network.
        """
        ca = load_ca(ca_path, "--ca")
        key = load_key(key_path, "--key")
        if not belongs(key, ca.certificate):
            raise BadInput(
                f"--key {key_path}", f"is not the key of --ca {ca_path}", "give the key made with it"
            )
        check_valid(ca.certificate, f"--ca {ca_path}", now, "make a new authority with vifibnet ca")
        return cls(ca, key)

    @property
    def certificate(self) -> x509.Certificate:
        """The CA certificate."""
        return self.ca.certificate

    @property
    def network(self) -> Network:
        """The network that the serial number holds."""
        return self.ca.network

    @property
    def ca_pem(self) -> bytes:
        """The CA certificate as PEM, as everybody gets it."""
        return self.ca.pem

    def sign(
        self,
        request: x509.CertificateSigningRequest,
        prefix: Prefix,
        serial: int,
        now: datetime,
        days: float = NODE_DAYS,
    ) -> x509.Certificate:
        """Make a node's certificate from a request that ``check_request`` let pass.

        The subject is the request's except CN, which is the prefix, and serialNumber, which is nobody's
        to ask for; the node's own address is its subjectAltName. No extension is copied. It never outlives
        the CA. Raises AuthorityExpired, and BadAddress where the prefix does not fit into the network.
        """
        ours = (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER)
        asked = [[kept for kept in rdn if kept.oid not in ours] for rdn in request.subject.rdns]
        asked.append([x509.NameAttribute(NameOID.COMMON_NAME, str(prefix))])
        subject = x509.Name([x509.RelativeDistinguishedName(rdn) for rdn in asked if rdn])
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        # A certificate without any such name passes as anybody's with some TLS clients.
        name = x509.SubjectAlternativeName([x509.IPAddress(self.network.address(prefix))])
        builder = self._leaf(
            request.public_key(), subject, serial, usages, now, now + timedelta(days=days)
        ).add_extension(name, critical=False)
        return builder.sign(self.key, signature_hash(self.key))

    def server_certificate(self, names: Sequence[str], now: datetime) -> tuple[PrivateKey, x509.Certificate]:
        """Make the registry's own key and certificate, which live as long as the CA.

        ``names`` are DNS names and IP addresses by which others than nodes call it; nodes know it as
        ``registry.vifibnet``. Raises BadInput naming ``--name``, and AuthorityExpired.
        """
        key = make_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, REGISTRY_NAME)])
        end = self.certificate.not_valid_after_utc
        builder = self._leaf(
            key.public_key(), subject, new_serial(), [ExtendedKeyUsageOID.SERVER_AUTH], now, end
        ).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(REGISTRY_NAME), *map(_alternative, names)]),
            critical=False,
        )
        return key, builder.sign(self.key, signature_hash(self.key))

    def _leaf(
        self,
        public_key: CertificatePublicKeyTypes,
        subject: x509.Name,
        serial: int,
        usages: Sequence[x509.ObjectIdentifier],
        now: datetime,
        end: datetime,
    ) -> x509.CertificateBuilder:
        """What all certificates of this CA have in common."""
        begin = max(now - CLOCK_SKEW, self.certificate.not_valid_before_utc)
        end = min(end, self.certificate.not_valid_after_utc)
        if now > end:
            raise AuthorityExpired(when=f"{end:%Y-%m-%d}")
        is_rsa = isinstance(public_key, rsa.RSAPublicKey)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(serial)
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True, key_encipherment=is_rsa), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """How certificates name this CA's key: as the CA itself does, when it does."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _alternative(name: str) -> x509.GeneralName:
    """An IP address or a DNS name as a certificate says it. Raises BadInput naming ``--name``."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    # "*.example.com" is a name in a certificate, though no host's.
    if not is_host(name.removeprefix("*.")):
        raise BadInput(
            f"--name {name}", "is neither an IP address nor a DNS name", "give one by which it is called"
        )
    return x509.DNSName(name)


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
