"""What the CA signs, and what it does not."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import DAY, NETWORK, NOW, authority, authority_of, certificate, key
from vifibnet.errors import AuthorityExpired, BadAddress, BadInput
from vifibnet.model.addresses import NETWORK_BITS, Network, Prefix
from vifibnet.pki.authority import CLOCK_SKEW, create_authority, new_serial
from vifibnet.pki.certificates import is_signed_by, prefix_of
from vifibnet.pki.requests import KEY_TYPES, check_request


class CreateTests(SynchronousTestCase):
    """A new CA."""

    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(NETWORK_BITS).flatmap(lambda n: st.tuples(st.integers(0, (1 << n) - 4), st.just(n)))
    )
    def test_every_length(self, bits: tuple[int, int]) -> None:
        """The serial number holds the network, as the manual reads it, for every length."""
        value, length = bits
        # Global unicast, 2000::/3.
        network = Network(value & (1 << length - 3) - 1 | 1 << length - 3, length)
        _, pem = create_authority(network, now=NOW)
        serial = x509.load_pem_x509_certificate(pem).serial_number
        self.assertEqual(bin(serial)[3:], f"{network.value:0{length}b}")
        self.assertEqual(Network.from_serial(serial), network)

    def test_marks(self) -> None:
        """It is marked as an authority that signs nodes and nothing that signs further."""
        for key_type in KEY_TYPES:
            made = authority(key_type).certificate
            basic = made.extensions.get_extension_for_class(x509.BasicConstraints)
            self.assertEqual((basic.critical, basic.value.ca, basic.value.path_length), (True, True, 0))
            usage = made.extensions.get_extension_for_class(x509.KeyUsage)
            self.assertEqual((usage.critical, usage.value.key_cert_sign), (True, True))
            self.assertFalse(usage.value.digital_signature)
            self.assertTrue(is_signed_by(made, made))

    def test_subject_and_time(self) -> None:
        """Name, e-mail and days are as given."""
        _, pem = create_authority(NETWORK, name="Our net", email="a@example.com", days=10, now=NOW)
        made = x509.load_pem_x509_certificate(pem)
        self.assertEqual([a.value for a in made.subject], ["Our net", "a@example.com"])
        self.assertEqual(made.not_valid_after_utc, (NOW + 10 * DAY).replace(microsecond=0))
        self.assertEqual(made.not_valid_before_utc, (NOW - CLOCK_SKEW).replace(microsecond=0))

    def test_refused(self) -> None:
        """Networks that no host can use, and names that no certificate can hold."""
        for text in ("ff00::/8", "fe00::/8", "fe80::/64", "::/8", "0:1::/32"):
            with self.assertRaises(BadInput, msg=text) as caught:
                create_authority(Network.parse(text), now=NOW)
            self.assertTrue(str(caught.exception).startswith(f"--network {Network.parse(text)}: "))
        with self.assertRaises(BadInput) as caught:
            create_authority(NETWORK, name="x" * 65, now=NOW)
        self.assertTrue(str(caught.exception).startswith("--name xxx"))
        with self.assertRaises(BadInput) as caught:
            create_authority(NETWORK, email="é@example.com", now=NOW)
        self.assertTrue(str(caught.exception).startswith("--email é@"))


class SignTests(SynchronousTestCase):
    """Nodes' certificates."""

    def test_subject(self) -> None:
        """The subject keeps what was asked for, except CN and serialNumber, which are ours."""
        asked = (("C", "FR"), ("CN", "0/16"), ("O", "Nexedi"), ("serialNumber", "1"), ("O", "Twice"),
                 ("CN", "registry.vifibnet"), ("emailAddress", "a@example.com"))  # fmt: skip
        made = certificate(prefix="5/16", attributes=asked)
        self.assertEqual(
            [(a.oid, a.value) for a in made.subject],
            [
                (NameOID.COUNTRY_NAME, "FR"), (NameOID.ORGANIZATION_NAME, "Nexedi"),
                (NameOID.ORGANIZATION_NAME, "Twice"), (NameOID.EMAIL_ADDRESS, "a@example.com"),
                (NameOID.COMMON_NAME, "5/16"),
            ],
        )  # fmt: skip
        self.assertEqual(prefix_of(made), Prefix(5, 16))

    def test_several_in_one_name(self) -> None:
        """Neither can a CN hide beside another attribute in one part of the name."""
        cn, o = (x509.NameAttribute(oid, "x") for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME))
        name = x509.Name([x509.RelativeDistinguishedName([cn, o])])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key(), SHA256())
        made = authority().sign(request, Prefix(5, 16), new_serial(), NOW)
        self.assertEqual([a.value for a in made.subject], ["x", "5/16"])
        self.assertEqual(prefix_of(made), Prefix(5, 16))

    def test_no_extension_is_copied(self) -> None:
        """Whoever asks to be an authority, or the registry, is a node."""
        builder = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("registry.vifibnet")]), critical=False)
            .add_extension(x509.TLSFeature([x509.TLSFeatureType.status_request]), critical=False)
        )
        pem = builder.sign(key(), SHA256()).public_bytes(Encoding.PEM).decode()
        made = authority().sign(check_request(pem), Prefix(5, 16), new_serial(), NOW)
        self.assertFalse(made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(list(names), [x509.IPAddress(NETWORK.address(Prefix(5, 16)))])
        with self.assertRaises(x509.ExtensionNotFound):
            made.extensions.get_extension_for_class(x509.TLSFeature)
        self.assertEqual(len(made.extensions), 6)

    def test_usages(self) -> None:
        """It is good for both ends of a tunnel, and for signing nothing."""
        for key_type in KEY_TYPES:
            made = certificate(private=key(key_type))
            usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
            self.assertTrue(usage.digital_signature)
            self.assertEqual(usage.key_encipherment, key_type == "rsa")
            self.assertFalse(usage.key_cert_sign or usage.crl_sign)
            self.assertEqual(
                list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value),
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            )

    def test_time(self) -> None:
        """It is valid since an hour ago, and never longer than the CA, at either end."""
        made = certificate(days=10)
        self.assertEqual(made.not_valid_before_utc, (NOW - timedelta(hours=1)).replace(microsecond=0))
        self.assertEqual(made.not_valid_after_utc, (NOW + 10 * DAY).replace(microsecond=0))
        short = authority("p256", NETWORK, 5)
        made = certificate(short, now=NOW - timedelta(minutes=30), days=10)
        self.assertEqual(made.not_valid_before_utc, short.certificate.not_valid_before_utc)
        self.assertEqual(made.not_valid_after_utc, short.certificate.not_valid_after_utc)

    def test_expired_authority(self) -> None:
        """An authority whose time is over signs nothing."""
        by = authority("p256", NETWORK, 5)
        with self.assertRaises(AuthorityExpired):
            certificate(by, now=NOW + 6 * DAY)
        with self.assertRaises(AuthorityExpired):
            by.server_certificate([], NOW + 6 * DAY)

    def test_prefix_that_does_not_fit(self) -> None:
        """A prefix that leaves no address is not signed."""
        with self.assertRaises(BadAddress):
            certificate(prefix="5/80")

    def test_every_pair_of_keys(self) -> None:
        """Any type of CA signs any type of node."""
        for by in KEY_TYPES:
            for node in KEY_TYPES:
                made = certificate(authority(by), private=key(node))
                self.assertTrue(is_signed_by(made, authority(by).certificate))

    def test_serials(self) -> None:
        """A serial number is 127 bits of chance: never a network's, never twice, positive in 16 bytes."""
        serials = {new_serial() for _ in range(1000)}
        self.assertEqual(len(serials), 1000)
        self.assertEqual({serial.bit_length() for serial in serials}, {127})
        with self.assertRaises(BadAddress):
            Network.from_serial(min(serials))
        self.assertEqual(certificate().serial_number.bit_length(), 127)

    def test_secrets_do_not_show(self) -> None:
        """The key is in no repr."""
        self.assertNotIn("key=", repr(authority()))


class ServerTests(SynchronousTestCase):
    """The registry's own certificate."""

    def test_names(self) -> None:
        """The fixed name, the DNS names and the addresses are there; it lives as long as the CA."""
        private, made = authority().server_certificate(
            ["a.example", "192.0.2.1", "2001:db8::1", "*.b.example"], NOW
        )
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            names.get_values_for_type(x509.DNSName), ["registry.vifibnet", "a.example", "*.b.example"]
        )
        self.assertEqual(
            [str(a) for a in names.get_values_for_type(x509.IPAddress)], ["192.0.2.1", "2001:db8::1"]
        )
        self.assertEqual(made.not_valid_after_utc, authority().certificate.not_valid_after_utc)
        self.assertEqual(private.public_key(), made.public_key())
        self.assertEqual(
            list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value),
            [ExtendedKeyUsageOID.SERVER_AUTH],
        )

    def test_no_node(self) -> None:
        """It cannot be taken for a node's."""
        _, made = authority().server_certificate([], NOW)
        with self.assertRaises(BadAddress):
            prefix_of(made)

    def test_made_each_time(self) -> None:
        """Its key is new at every start."""
        self.assertNotEqual(*(authority().server_certificate([], NOW)[0].public_key() for _ in range(2)))

    def test_pair(self) -> None:
        """Key and certificate from files are the CA that was made."""
        made = create_authority(NETWORK, now=NOW)
        self.assertEqual(authority_of(*made).ca_pem, made[1])
