"""Keys and certificate requests: making our own, judging those of others."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from vifibnet.errors import BadInput, BadRequest
from vifibnet.pki.certificates import MIN_RSA_BITS, UNREADABLE, PrivateKey

KEY_TYPES = ("p256", "ed25519", "rsa")
"""What ``--key-type`` accepts; the first is the default."""

MAX_REQUEST = 8192
"""How long a request may be, in characters of PEM: an RSA key of 8192 bits fits in half of it."""

RSA_BITS = range(MIN_RSA_BITS, 8193)
"""Shorter RSA keys are weak, longer ones only make every handshake slow."""

_NAMES = {
    ("C", "countryName"): NameOID.COUNTRY_NAME,
    ("ST", "S", "stateOrProvinceName"): NameOID.STATE_OR_PROVINCE_NAME,
    ("L", "localityName"): NameOID.LOCALITY_NAME,
    ("street", "streetAddress"): NameOID.STREET_ADDRESS,
    ("postalCode",): NameOID.POSTAL_CODE,
    ("O", "organizationName"): NameOID.ORGANIZATION_NAME,
    ("OU", "organizationalUnitName"): NameOID.ORGANIZATIONAL_UNIT_NAME,
    ("CN", "commonName"): NameOID.COMMON_NAME,
    ("emailAddress", "email"): NameOID.EMAIL_ADDRESS,
    ("title",): NameOID.TITLE,
    ("GN", "givenName"): NameOID.GIVEN_NAME,
    ("SN", "surname"): NameOID.SURNAME,
    ("initials",): NameOID.INITIALS,
    ("generationQualifier",): NameOID.GENERATION_QUALIFIER,
    ("dnQualifier",): NameOID.DN_QUALIFIER,
    ("pseudonym",): NameOID.PSEUDONYM,
    ("serialNumber",): NameOID.SERIAL_NUMBER,
    ("UID", "userId"): NameOID.USER_ID,
    ("DC", "domainComponent"): NameOID.DOMAIN_COMPONENT,
}
_ASCII_ONLY = {
    NameOID.COUNTRY_NAME,
    NameOID.EMAIL_ADDRESS,
    NameOID.DN_QUALIFIER,
    NameOID.SERIAL_NUMBER,
    NameOID.DOMAIN_COMPONENT,
}
_OIDS = {name.lower(): oid for names, oid in _NAMES.items() for name in names}


def make_key(key_type: str = "p256", option: str = "--key-type") -> PrivateKey:
    """Make a private key. Raises BadInput for a type that is not one of KEY_TYPES."""
    if key_type == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=3072)
    raise BadInput(f"{option} {key_type}", "is no type of key", f"give one of {', '.join(KEY_TYPES)}")


def key_type(key: PrivateKey) -> str:
    """Which of KEY_TYPES makes keys such as this one."""
    if isinstance(key, rsa.RSAPrivateKey):
        return "rsa"
    return "ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "p256"


def key_pem(key: PrivateKey) -> bytes:
    """The key as an unencrypted PKCS#8 PEM file, which OpenVPN and OpenSSL read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signature_hash(key: PrivateKey) -> hashes.SHA256 | None:
    """The hash to sign with; Ed25519 brings its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def attribute(name: str, value: str, what: str) -> x509.NameAttribute[str]:
    """One subject attribute under openssl's short or long name. Raises BadInput beginning with ``what``."""
    oid = _OIDS.get(name.lower())
    if oid is None:
        known = ", ".join(names[0] for names in _NAMES)
        raise BadInput(what, f"{name!r} is no attribute of a certificate's subject", f"give one of {known}")
    if not value or not value.isprintable():
        raise BadInput(what, "the value is empty or holds control characters", "give plain text")
    if oid in _ASCII_ONLY and not value.isascii():
        raise BadInput(what, "the value holds letters that this attribute cannot hold", "write it in ASCII")
    try:
        made = x509.NameAttribute(oid, value)
        # Some values are refused only when they are encoded.
        x509.Name([made]).public_bytes()
    except UNREADABLE as error:
        raise BadInput(
            what, f"the value is not allowed ({error})".rstrip("."), "give one that fits"
        ) from None
    return made


def make_request(
    key: PrivateKey, attributes: Sequence[tuple[str, str]], option: str = "--req"
) -> x509.CertificateSigningRequest:
    """Make a request whose subject is ``attributes``: pairs of openssl's names and values, in their order.

    Raises BadInput naming ``option`` for a name that openssl does not know or a value that it cannot hold.
    """
    subject = x509.Name([attribute(name, value, f"{option} {name} {value}") for name, value in attributes])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, signature_hash(key))


def check_request(pem: str) -> x509.CertificateSigningRequest:
    """Read a request that came from anybody. Raises BadRequest.

    It must be no longer than MAX_REQUEST, signed by its own key, of a type we accept, with a subject of
    printable text. Its extensions are nobody's business: they are never copied.
    """
    if len(pem) > MAX_REQUEST:
        raise BadRequest(problem=f"it is longer than {MAX_REQUEST} characters")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = request.public_key()
        values = [attribute.value for attribute in request.subject]
    except UNREADABLE:
        raise BadRequest(problem="it is not a PEM certificate request that can be read") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in RSA_BITS:
            raise BadRequest(
                problem=f"its RSA key has {key.key_size} bits, not {RSA_BITS.start} to {RSA_BITS.stop - 1}"
            )
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise BadRequest(problem=f"its key is on the curve {key.curve.name}, not P-256")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise BadRequest(problem="its key is neither P-256, Ed25519 nor RSA")
    if not all(isinstance(value, str) and value.isprintable() for value in values):
        raise BadRequest(problem="its subject holds something else than printable text")
    try:
        valid = request.is_signature_valid
    except UNREADABLE:
        valid = False
    if not valid:
        raise BadRequest(problem="it is not signed by the key that it holds")
    return request
