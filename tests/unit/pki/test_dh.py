"""The Diffie-Hellman parameters, judged by the RFC's formula and by openssl."""

from decimal import Decimal, localcontext

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from vifibnet.pki.dh import FFDHE2048_PRIME, ffdhe2048_pem


class DHTests(TestCase):
    """The group ffdhe2048."""

    def test_the_rfcs_formula(self) -> None:
        """The prime is RFC 7919's 2^2048 - 2^1984 + (floor(2^1918 e) + 560316) 2^64 - 1."""
        with localcontext(prec=700):
            e = int(Decimal(1).exp() * (1 << 1918))
        self.assertEqual(FFDHE2048_PRIME, 2**2048 - 2**1984 + (e + 560316) * 2**64 - 1)

    async def test_openssl(self) -> None:
        """Openssl reads the file, finds the parameters sound and knows them by name."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(ffdhe2048_pem())
        run: Deferred[tuple[bytes, bytes, int]] = getProcessOutputAndValue(
            "/usr/bin/openssl", ["dhparam", "-check", "-text", "-in", path]
        )
        out, err, status = await run
        self.assertEqual(status, 0, err)
        self.assertIn(b"DH parameters appear to be ok", err + out)
        self.assertIn(b"ffdhe2048", out)
        self.assertTrue(out.endswith(ffdhe2048_pem()), out)
