"""Renewing our certificate, on a clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from cryptography import x509
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NOW, FakeRegistry, authorities, clock, config
from tests.unit.pki.making import (
    NETWORK,
    authority_of,
    certificate,
    identity,
    key,
    pem,
    successor,
    write_identity,
)
from vifibnet.errors import UnknownNode
from vifibnet.model.addresses import Prefix
from vifibnet.node.renewal import REPLACE_FROM, REPLACE_TO, Renewal, due, life
from vifibnet.pki.authority import Authority, create_authority, new_serial
from vifibnet.pki.certificates import CA as TrustedCA
from vifibnet.pki.certificates import Identity
from vifibnet.pki.document import authority_lines, sign_document
from vifibnet.pki.freshkey import settle
from vifibnet.pki.requests import check_request, key_pem, make_key
from vifibnet.store.pem import key_hash
from vifibnet.wire.document import Kind

DAY = 24 * 3600.0


class Crash(Exception):
    """The end of a node, at the worst moment."""


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
        self.replaced: list[tuple[float, float]] = []
        self.renewal = self.start(identity(CA, now=BEGAN, days=DAYS))

    def start(self, me: Identity, **options: object) -> Renewal:
        """Begin to look after this certificate."""
        write_identity(self.directory, me)
        return self.go_on(me, **options)

    def go_on(self, me: Identity, **options: object) -> Renewal:
        """The same with the files that are there."""
        renewal = Renewal(
            self.clock,
            Random(1),
            config(self.directory, **options),
            me,
            authorities(self.clock, self.directory, me.cas),
            self.note,
            self.replace,
            maybeDeferred,
        )
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

    def replace(self, first: float, last: float) -> None:
        """Note from when to when, in days, the processes are to be replaced."""
        self.replaced.append((self.day() + first / DAY, self.day() + last / DAY))

    def day(self) -> float:
        """How many days have passed."""
        return (self.clock.seconds() - NOW) / DAY

    def sign(self, request: str, days: float = DAYS, prefix: str = "5/16", by: Authority = CA) -> str:
        """As the registry does."""
        now = datetime.fromtimestamp(self.clock.seconds(), UTC)
        made = by.sign(check_request(request), Prefix.parse(prefix), new_serial(), now, days)
        return pem(made).decode()

    def advance(self, days: float) -> None:
        """Let time pass, an hour at a time."""
        self.clock.pump([3600] * round(days * 24))

    def load(self) -> x509.Certificate:
        """The certificate in the files, which belong together."""
        return self.loaded().certificate

    def loaded(self) -> Identity:
        """Who the files say that we are."""
        ca, cert, key = [self.directory / name for name in ("ca.pem", "cert.crt", "cert.key")]
        return Identity.load(ca, cert, key, datetime.fromtimestamp(self.clock.seconds(), UTC))

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
        self.assertEqual((self.registry.calls, self.renewed), (["authorities 0", "renew"], 1))
        self.assertEqual(self.load(), self.renewal.identity.certificate)
        self.assertEqual(self.renewal.identity.key, first.key)
        self.assertGreater(self.load().not_valid_after_utc, first.certificate.not_valid_after_utc)
        self.advance(59.7)
        self.assertEqual(self.renewed, 1)
        self.advance(0.5)
        self.assertEqual(self.renewed, 2)

    def test_another_authority(self) -> None:
        """A certificate of an authority that the one we trust vouches for is taken, though we hear of it only
        now; and one that ends with the old authority is due again when the new one signs."""
        self.renewal.stopService()
        self.clock.advance(3600 * DAY)
        now = datetime.fromtimestamp(self.clock.seconds(), UTC)
        late = successor(CA, now=now, wait=timedelta(days=10))
        renewal = self.start(identity(CA, now=now - timedelta(days=300), days=365))
        self.advance(9)
        self.assertEqual(self.registry.calls, [])
        self.registry.documents[Kind.AUTHORITIES] = self.authorities([late.ca, CA.ca])
        self.registry.certificate = lambda request: self.sign(request, by=late)
        self.successResultOf(Deferred.fromCoroutine(renewal._authorities.ask(self.registry)))
        self.registry.calls.clear()
        self.advance(0.9)
        self.assertEqual(self.registry.calls, [])
        self.advance(0.2)
        self.assertEqual(len(self.registry.calls), 2)
        self.assertEqual((renewal.identity.ca, self.renewed), (late.ca, 1))
        self.assertEqual(self.load(), renewal.identity.certificate)

    def authorities(self, cas: Sequence[TrustedCA], number: int = 1) -> bytes:
        """The document, signed by the old one."""
        return sign_document(CA, Kind.AUTHORITIES, number, authority_lines(cas))

    def test_unknown_authority(self) -> None:
        """One that nobody vouches for is not believed."""
        late = successor(CA, now=BEGAN)
        self.registry.certificate = lambda request: self.sign(request, by=late)
        self.registry.documents[Kind.AUTHORITIES] = sign_document(
            late, Kind.AUTHORITIES, 1, authority_lines([late.ca])
        )
        self.advance(61)
        self.assertEqual(self.renewed, 0)
        self.registry.documents[Kind.AUTHORITIES] = self.authorities([late.ca, CA.ca])
        self.advance(1)
        self.assertEqual(self.renewed, 1)

    def test_holders(self) -> None:
        """Who holds the old certificate is replaced before it expires, once."""
        self.advance(60.1)
        [(first, last)] = self.replaced
        self.assertAlmostEqual(first, 60 + 30 * REPLACE_FROM, delta=0.1)
        self.assertAlmostEqual(last, 60 + 30 * REPLACE_TO, delta=0.1)
        self.advance(30)
        self.assertEqual(len(self.replaced), 1)

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

    def test_fresh_key(self) -> None:
        """Each renewal makes a key of its own, which is in the files, and nobody else's to read."""
        self.renewal.stopService()
        renewal = self.start(identity(CA, now=BEGAN, days=DAYS), fresh_key=True)
        keys = [renewal.identity.key]
        for count in (1, 2):
            self.advance(60.1)
            self.assertEqual(self.renewed, count)
            keys.append(renewal.identity.key)
            self.assertEqual(key_pem(self.loaded().key), key_pem(keys[-1]))
        self.assertEqual(len({key_pem(key) for key in keys}), 3)
        self.assertEqual((self.directory / "cert.key").stat().st_mode & 0o777, 0o600)
        names = {path.name for path in self.directory.iterdir()}
        self.assertEqual(names - {"run"}, {"ca.pem", "cert.crt", "cert.key"})

    def test_fresh_key_refused(self) -> None:
        """Nothing changes without a certificate; the next try is with the same key."""
        self.renewal.stopService()
        renewal = self.start(identity(CA, now=BEGAN, days=DAYS), fresh_key=True)
        before, requests = self.load(), []

        def refuse(request: str) -> str:
            requests.append(request)
            raise UnknownNode

        self.registry.certificate = refuse
        self.advance(60.5)
        self.assertEqual((self.load(), renewal.identity.key), (before, key()))
        self.assertEqual(len({key_hash(check_request(each).public_key()) for each in requests}), 1)

    def test_crash(self) -> None:
        """Wherever a renewal with a fresh key ends, the node starts again, and the next one succeeds."""
        replace_file, points = Path.replace, 0
        for dies_at in range(1, 20):
            self.clock.advance(DAY)
            began = datetime.fromtimestamp(self.clock.seconds(), UTC)
            self.renewal.stopService()
            self.renewal = self.start(identity(CA, now=began, days=DAYS), fresh_key=True)
            count = 0

            def step(dies_at: int = dies_at) -> None:
                nonlocal count
                count += 1
                if count >= dies_at:
                    raise Crash

            def replacing(path: Path, target: Path) -> Path:
                step()
                replace_file(path, target)
                step()
                return target

            def signing(request: str) -> str:
                step()
                made = self.sign(request)
                step()
                return made

            self.patch(Path, "replace", replacing)
            self.registry.certificate = signing
            self.advance(60.02)
            self.patch(Path, "replace", replace_file)
            self.renewal.stopService()
            self.registry.certificate = self.sign
            settle(self.directory / "cert.crt", self.directory / "cert.key")
            found = self.loaded()
            self.assertEqual((self.directory / "cert.key").stat().st_mode & 0o777, 0o600)
            self.renewal = self.go_on(found, fresh_key=True)
            self.clock.advance(0)
            self.assertNotEqual(key_pem(self.loaded().key), key_pem(key()))
            self.assertEqual(key_pem(self.loaded().key), key_pem(self.renewal.identity.key))
            if not self.flushLoggedErrors(Crash):
                break
            points += 1
        # Three files are renamed, and the registry answers, each with a moment before and one after.
        self.assertEqual(points, 8)
