"""Documents signed by the network's CA: whoever brings one, it can be believed."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vifibnet.errors import BadDocument, BadInput
from vifibnet.model.addresses import Network
from vifibnet.pki.authority import Authority
from vifibnet.pki.certificates import CA, UNREADABLE, ca_of, newest_first
from vifibnet.pki.signing import is_signed, key_name, sign
from vifibnet.wire.authorities import format_authorities, parse_authorities
from vifibnet.wire.document import (
    Document,
    Kind,
    add_signature,
    format_document,
    parse_document,
    split_signature,
)


def sign_document(authority: Authority, kind: Kind, number: int, lines: Sequence[str]) -> bytes:
    """Make the document with this number (a later one of its kind needs a greater one)."""
    document = Document(kind, authority.network, key_name(authority.ca), number, tuple(lines))
    text = format_document(document)
    return add_signature(text, sign(authority.key, text))


def authority_lines(cas: Sequence[CA]) -> list[str]:
    """The lines of the document that names the network's CAs."""
    return format_authorities(ca.certificate.public_bytes(Encoding.DER) for ca in cas)


def authorities_in(network: Network, lines: Sequence[str]) -> tuple[CA, ...]:
    """The network's CAs that such a document names, the newest first. Raises BadDocument."""
    try:
        certificates = [x509.load_der_x509_certificate(each) for each in parse_authorities(lines)]
        cas = newest_first(ca_of(each, "an authority in it") for each in certificates)
    except (*UNREADABLE, BadInput) as error:
        problem = str(error).partition(";")[0] if isinstance(error, BadInput) else "a certificate is none"
        raise BadDocument(problem=problem) from None
    if any(ca.network != network for ca in cas):
        raise BadDocument(problem="an authority in it is another network's")
    return cas


def read_authorities(data: bytes, cas: Sequence[CA]) -> tuple[CA, ...]:
    """The CAs in a document that one of ``cas`` signed. Raises BadDocument."""
    document = read_document(data, Kind.AUTHORITIES, cas)
    return authorities_in(document.network, document.lines)


def read_document(data: bytes, kind: Kind, cas: Sequence[CA]) -> Document:
    """Read a document of this kind. Raises BadDocument unless one of the network's CAs signed it."""
    text, signature = split_signature(data)
    # Before it is read: that is work which a stranger should not be able to cause.
    signer = next((ca for ca in cas if is_signed(ca, text, signature)), None)
    if signer is None:
        raise BadDocument(problem="the network's authority did not sign it")
    document = parse_document(text)
    if document.kind != kind:
        raise BadDocument(problem=f"it is about {document.kind}, not {kind}")
    if (document.network, document.authority) != (signer.network, key_name(signer)):
        raise BadDocument(problem=f"it is the network {document.network}'s, or another authority's")
    return document
