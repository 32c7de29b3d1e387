"""Renewing our certificate, on a clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NOW, FakeRegistry, clock, config
from tests.unit.pki.making import (
    NETWORK,
    authority_of,
    certificate,
    identity,
    key,
    pem,
    write_identity,
)
from vifibnet.model.addresses import Prefix
from vifibnet.node.renewal import REPLACE_FROM, REPLACE_TO, Renewal, due, life
from vifibnet.pki.authority import create_authority, new_serial
from vifibnet.pki.certificates import Identity
from vifibnet.pki.requests import check_request, make_key

DAY = 24 * 3600.0
DAYS = 90
BEGAN = datetime.fromtimestamp(NOW, UTC)
CA = authority_of(*create_authority(NETWORK, now=BEGAN, days=3650))


class RenewalTests(SynchronousTestCase):
    """A node with a certificate of 90 days."""

    def setUp(self) -> None:
        """Its files, and a registry that does what the test says."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.clock = clock()
        self.registry = FakeRegistry()
        self.registry.certificate = self.sign
        self.renewed = 0
        self.replaced: list[float] = []
        self.renewal = self.start(identity(CA, now=BEGAN, days=DAYS))

    def start(self, me: Identity) -> Renewal:
        """Begin to look after this certificate."""
        write_identity(self.directory, me)
        renewal = Renewal(self.clock, Random(1), config(self.directory), me, self.note, self.holders)
        renewal.registry = self.registry
        renewal.startService()
        self.addCleanup(self.stop, renewal)
        return renewal

    def stop(self, renewal: Renewal) -> None:
        """Stop it, if that has not happened."""
        if renewal.running:
            renewal.stopService()

    def note(self) -> None:
        """We have another certificate."""
        self.renewed += 1

    def holders(self) -> list[Callable[[], None]]:
        """Three processes."""
        return [lambda: self.replaced.append(self.day())] * 3

    def day(self) -> float:
        """How many days have passed."""
        return (self.clock.seconds() - NOW) / DAY

    def sign(self, request: str, days: float = DAYS, prefix: str = "5/16") -> str:
        """As the registry does."""
        now = datetime.fromtimestamp(self.clock.seconds(), UTC)
        made = CA.sign(check_request(request), Prefix.parse(prefix), new_serial(), now, days)
        return pem(made).decode()

    def advance(self, days: float) -> None:
        """Let time pass, an hour at a time."""
        self.clock.pump([3600] * round(days * 24))

    def load(self) -> x509.Certificate:
        """The certificate in the files, which belong together."""
        ca, cert, key = [self.directory / name for name in ("ca.pem", "cert.crt", "cert.key")]
        return Identity.load(ca, cert, key, datetime.fromtimestamp(self.clock.seconds(), UTC)).certificate

    def test_due(self) -> None:
        """A third of the life is left; what ends with the authority cannot be renewed."""
        made = self.renewal.identity.certificate
        self.assertEqual(life(made), timedelta(days=DAYS))
        self.assertEqual(due(made, CA.certificate), BEGAN + timedelta(days=60))
        last = certificate(CA, now=BEGAN + timedelta(days=3600), days=365)
        self.assertIsNone(due(last, CA.certificate))

    def test_life(self) -> None:
        """Nothing for 60 days, then a new certificate in the old file, with the old key; and again."""
        self.advance(59.9)
        self.assertEqual((self.registry.calls, self.renewed), ([], 0))
        first = self.renewal.identity
        self.advance(0.2)
        self.assertEqual((self.registry.calls, self.renewed), (["renew"], 1))
        self.assertEqual(self.load(), self.renewal.identity.certificate)
        self.assertEqual(self.renewal.identity.key, first.key)
        self.assertGreater(self.load().not_valid_after_utc, first.certificate.not_valid_after_utc)
        self.advance(59.7)
        self.assertEqual(self.renewed, 1)
        self.advance(0.5)
        self.assertEqual(self.renewed, 2)

    def test_holders(self) -> None:
        """Who holds the old certificate is replaced before it expires, each at a time of its own."""
        self.advance(60.1)
        self.assertEqual(self.replaced, [])
        self.advance(30)
        self.assertEqual(len(set(self.replaced)), 3)
        self.assertGreater(min(self.replaced), 60 + 30 * REPLACE_FROM - 0.1)
        self.assertLess(max(self.replaced), 60 + 30 * REPLACE_TO + 0.1)

    def test_stop(self) -> None:
        """Nothing is left after the stop."""
        self.advance(60.1)
        self.renewal.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unreachable(self) -> None:
        """The registry is away for weeks: it is asked every hour, and at once when it is there again."""
        self.registry.reachable = False
        self.advance(80)
        self.assertEqual(self.renewed, 0)
        self.assertGreater(len(self.registry.calls), 20 * 15)
        self.registry.reachable = True
        self.renewal.retry()
        self.clock.advance(0)
        self.assertEqual(self.renewed, 1)

    def test_refused(self) -> None:
        """A refusal is said once, and the old certificate stays."""
        self.registry.certificate = None
        before = self.load()
        self.advance(61)
        self.assertEqual(self.load(), before)
        self.assertGreater(len(self.registry.calls), 10)

    def test_wrong_answers(self) -> None:
        """What is no certificate for us is not put in the place of the good one."""
        other = make_key()
        answers: list[Callable[[str], str]] = [
            lambda request: "x",
            lambda request: "²",
            lambda request: self.sign(request, prefix="6/16"),
            lambda request: self.sign(request, days=1),
            lambda request: pem(certificate(CA, private=other)).decode(),
            lambda request: pem(identity(now=BEGAN).certificate).decode(),
        ]
        before = self.load()
        self.advance(59.9)
        for answer in answers:
            self.registry.certificate = answer
            self.registry.calls.clear()
            self.advance(0.2)
            self.assertIn("renew", self.registry.calls)
            self.assertEqual((self.load(), self.renewed), (before, 0))
        self.registry.certificate = self.sign
        self.advance(0.2)
        self.assertEqual(self.renewed, 1)

    def test_expired(self) -> None:
        """A node that comes too late waits for its new certificate, however long the registry is away."""
        self.renewal.stopService()
        self.clock.advance(100 * DAY)
        self.registry.reachable = False
        renewal = self.start(identity(CA, now=BEGAN, days=DAYS))
        self.assertTrue(renewal.expired)
        waiting = renewal.valid()
        self.advance(3)
        self.assertNoResult(waiting)
        self.registry.reachable = True
        self.advance(0.1)
        self.successResultOf(waiting)
        self.assertFalse(renewal.expired)
        self.assertEqual(self.load(), renewal.identity.certificate)
        self.assertEqual(self.successResultOf(renewal.valid()), None)

    def test_stop_while_expired(self) -> None:
        """The stop ends the waiting."""
        self.renewal.stopService()
        self.clock.advance(100 * DAY)
        self.registry.reachable = False
        renewal = self.start(identity(CA, now=BEGAN, days=DAYS))
        waiting: Deferred[None] = renewal.valid()
        renewal.stopService()
        self.successResultOf(waiting)

    def test_short(self) -> None:
        """A certificate of seconds is looked after as well."""
        self.renewal.stopService()
        me = identity(CA, now=BEGAN, days=30 / DAY)
        self.assertEqual(me.key, key())
        self.registry.certificate = lambda request: self.sign(request, days=30 / DAY)
        self.start(me)
        self.clock.pump([0.1] * 1000)
        self.assertIn(self.renewed, range(4, 6))
