"""What the operator may do, over a connection in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.protocols.amp import AMP, Command
from twisted.test.iosim import FakeTransport, IOPump, connect
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NETWORK, NOW, Parts, request_pem
from tests.unit.registry.test_amp import ENDPOINTS, Node
from vifibnet import __version__
from vifibnet.errors import (
    BadArguments,
    BadEmail,
    InternalError,
    NoSuchNode,
    NotDone,
    TooManyTokens,
    UnknownToken,
)
from vifibnet.model.addresses import Prefix
from vifibnet.pki.certificates import fingerprint
from vifibnet.registry.addresses import addresses, source_addresses
from vifibnet.registry.admin import AdminFace
from vifibnet.registry.administration import PAGE, Administration
from vifibnet.registry.core import HOUR, TOKENS_PER_HOUR
from vifibnet.store.backup import Copied
from vifibnet.wire.admin import (
    MAX_INVITATIONS,
    Backup,
    Invite,
    ListNodes,
    ListTokens,
    Release,
    RenewCA,
    Status,
)
from vifibnet.wire.amp import Declare, GetPeers
from vifibnet.wire.invitation import Invitation

DAY = 24 * 3600


class AdminCase(SynchronousTestCase):
    """A registry, and an operator who is connected to it."""

    def setUp(self) -> None:
        self.parts = Parts(Path(self.mktemp()))
        self.addCleanup(self.parts.store.close)
        registry = self.parts.registry
        self.in_thread: list[tuple[object, ...]] = []

        def in_thread(*call: object) -> Deferred[Copied]:
            self.in_thread.append(call)
            return succeed(Copied(4096, 7))

        self.administration = Administration(
            registry.renewal, self.parts.store, registry.revocations, registry.parameters,
            self.parts.clock, self.parts.invite, in_thread,
        )  # fmt: skip
        self.amp = AMP()
        face = AdminFace(self.administration, "uid 7")
        there: Any = FakeTransport(face, True)
        here: Any = FakeTransport(self.amp, False)
        self.pump: IOPump = connect(face, there, self.amp, here)

    def call(self, command: type[Command], **arguments: object) -> Deferred[dict[str, Any]]:
        """Call and wait for the answer."""
        answer: Deferred[dict[str, Any]] = Deferred()
        self.amp.callRemote(command, **arguments).addCallbacks(answer.callback, answer.errback)
        self.pump.flush()
        return answer

    def audit(self) -> list[tuple[str, str, str]]:
        """What was noted."""
        return self.parts.store._db.execute("SELECT what, subject, by FROM audit ORDER BY id").fetchall()


class RenewCATests(AdminCase):
    """The next authority."""

    def test_renewed(self) -> None:
        """The operator learns what was made and when it signs, or why nothing was made."""
        old = self.parts.authority.ca
        answer = self.successResultOf(self.call(RenewCA, new_key=True, days=400, wait=600))
        new = self.parts.registry.authorities.newest
        now = self.parts.clock.seconds()
        self.assertEqual(
            answer,
            {
                "fingerprint": fingerprint(new.certificate),
                "signs_from": now + 600,
                "end": now + 400 * 24 * 3600,
                "old_end": old.end.timestamp(),
                "ca": "",
                "key": "",
            },
        )
        self.failureResultOf(self.call(RenewCA, new_key=True, days=400, wait=600), NotDone)
        self.failureResultOf(self.call(RenewCA, new_key=True, days=0, wait=600), BadArguments)
        self.assertIn(("authority made", answer["fingerprint"], "uid 7"), self.audit())


class InviteTests(AdminCase):
    """Invitations."""

    def test_invite(self) -> None:
        """Each is good for one certificate of the wished length, and says where to get it."""
        answer = self.successResultOf(
            self.call(Invite, count=2, valid=7 * DAY, email="a@b.example", prefix_length=12)
        )
        first, second = (Invitation.parse(line) for line in answer["invitations"])
        self.assertEqual((first.addresses, first.port), (("192.0.2.1", "r.example"), 443))
        self.assertEqual(first.fingerprint, fingerprint(self.parts.authority.certificate))
        self.assertNotEqual(first.token, second.token)
        self.assertEqual(answer["expires"], NOW + 7 * DAY)
        self.parts.clock.advance(7 * DAY - 1)
        self.parts.registry.request_certificate(first.token, request_pem())
        self.assertIsNotNone(self.parts.store.certificate(Prefix(0, 12)))
        self.parts.clock.advance(1)
        with self.assertRaises(UnknownToken):
            self.parts.registry.request_certificate(second.token, request_pem())
        self.assertEqual(self.audit()[:2], [("invited", "a@b.example", "uid 7")] * 2)

    def test_refused(self) -> None:
        """Each wrong wish is refused, and no token is there afterwards."""
        for wrong in (
            {"count": 0}, {"count": MAX_INVITATIONS + 1}, {"valid": 59}, {"valid": 367 * DAY},
            {"prefix_length": 0}, {"prefix_length": 80}, {"prefix_length": -1},
        ):  # fmt: skip
            self.failureResultOf(self.call(Invite, **{"count": 1, "valid": DAY, **wrong}), BadArguments)
        self.failureResultOf(self.call(Invite, count=1, valid=DAY, email="a b"), BadEmail)
        self.assertEqual(self.successResultOf(self.call(ListTokens, after=""))["tokens"], [])
        self.assertEqual(self.audit(), [])


class ListTests(AdminCase):
    """Nodes and tokens."""

    def test_nodes(self) -> None:
        """What there is to say of a node, and whether it is connected right now."""
        one, two = Node(self.parts), Node(self.parts)
        self.successResultOf(one.call(Declare, endpoints=ENDPOINTS))
        two.face.abort()
        two.pump.flush()
        answer = self.successResultOf(self.call(ListNodes, after=""))
        self.assertEqual(answer["next"], "")
        first, second = answer["nodes"]
        serial = str(one.certificate.serial_number)
        self.assertEqual(
            first,
            {
                "prefix": "0/16", "address": str(NETWORK.address(Prefix(0, 16))), "email": "a@b.example",
                "subject": one.certificate.subject.rfc4514_string(), "serial": serial, "joined": NOW,
                "expires": one.certificate.not_valid_after_utc.timestamp(), "released": None,
                "revoked": None, "seen": NOW, "connected": True, "endpoints": ENDPOINTS,
            },
        )  # fmt: skip
        self.assertEqual((second["connected"], second["seen"], second["endpoints"]), (False, NOW, ""))

    def test_pages(self) -> None:
        """Many nodes come in several answers, long ones in more, and each node once."""
        for long in (1, 4000):
            for _ in range(PAGE + 5):
                self.parts.enrol()
            self.parts.store._db.execute("UPDATE certificate SET subject = ?", ("O=" + "ü" * long,))
            found, start, pages = [], "", 0
            while True:
                answer = self.successResultOf(self.call(ListNodes, after=start))
                found += [node["prefix"] for node in answer["nodes"]]
                start = answer["next"]
                pages += 1
                if not start:
                    break
            (count,) = self.parts.store._db.execute("SELECT count(*) FROM certificate").fetchone()
            self.assertEqual(found, [f"{n}/16" for n in range(count)])
            self.assertGreater(pages, 1 if long == 1 else 10)

    def test_tokens(self) -> None:
        """Who used which."""
        self.parts.enrol()
        self.successResultOf(self.call(Invite, count=1, valid=DAY))
        tokens = self.successResultOf(self.call(ListTokens, after=""))["tokens"]
        # Both were made at the same time, so that nothing is said about their order.
        invited, mailed = sorted(tokens, key=lambda token: token["kind"])
        self.assertEqual((mailed["kind"], mailed["email"], mailed["used"]), ("mail", "a@b.example", "0/16"))
        self.assertEqual((invited["kind"], invited["email"], invited["used"]), ("invitation", None, None))
        self.failureResultOf(self.call(ListTokens, after="x y"), BadArguments)

    def test_unforeseen(self) -> None:
        """What was not foreseen is logged, and the operator stays connected."""
        self.parts.store.close()
        for _ in range(2):
            self.failureResultOf(self.call(ListNodes, after=""), InternalError)
        self.assertEqual(len(self.flushLoggedErrors()), 2)


class ReleaseTests(AdminCase):
    """A node that is taken out."""

    def test_release(self) -> None:
        """It is cut off, the others are told, and it is listed until its prefix is free."""
        one, two = Node(self.parts), Node(self.parts)
        answer = self.successResultOf(self.call(Release, node=str(NETWORK.address(one.prefix))))
        one.pump.flush()
        two.pump.flush()
        self.assertEqual((answer["prefix"], answer["email"]), ("0/16", "a@b.example"))
        self.assertGreater(answer["free"], one.certificate.not_valid_after_utc.timestamp())
        self.assertFalse(self.parts.registry.connections.has(one.prefix))
        self.assertTrue(self.parts.registry.connections.has(two.prefix))
        self.assertEqual(len(two.amp.numbers), 1)
        self.successResultOf(two.call(GetPeers, count=5))
        first, _ = self.successResultOf(self.call(ListNodes, after=""))["nodes"]
        self.assertEqual((first["released"], first["connected"]), (NOW, False))
        self.assertEqual(self.audit()[-1], ("released", "0/16", "uid 7"))

    def test_nobody(self) -> None:
        """What is no node is refused."""
        for text in ("0/16", "2001:db8:42::1", "2001:db8:43::1", "192.0.2.1", "", "x" * 500, "1/1/1"):
            self.failureResultOf(self.call(Release, node=text), NoSuchNode)


class StatusTests(AdminCase):
    """How the registry is."""

    def test_status(self) -> None:
        """What there is of everything; the one that is released is not a node any more."""
        one, two = Node(self.parts), Node(self.parts)
        self.successResultOf(one.call(Declare, endpoints=ENDPOINTS))
        self.parts.clock.advance(5)
        expected = {
            "network": str(NETWORK), "version": __version__, "started": NOW, "nodes": 2, "connected": 2,
            "tokens": 2, "declared": 1, "revocations": 0,
            "authority_expires": self.parts.authority.certificate.not_valid_after_utc.timestamp(),
        }  # fmt: skip
        self.assertEqual(self.successResultOf(self.call(Status)), expected)
        number = self.parts.registry.revocations.number
        self.successResultOf(self.call(Release, node=str(two.prefix)))
        two.pump.flush()
        answer = self.successResultOf(self.call(Status))
        self.assertEqual((answer["nodes"], answer["connected"]), (1, 1))
        self.assertGreater(answer["revocations"], number)
        self.parts.clock.advance(DAY)
        answer = self.successResultOf(self.call(Status))
        self.assertEqual((answer["tokens"], answer["declared"]), (0, 0))


class BackupTests(AdminCase):
    """Copies are made in a thread."""

    def test_backup(self) -> None:
        """The file is named by its whole path, and it is noted who wanted it."""
        answer = self.successResultOf(self.call(Backup, path="/var/backups/registry.db"))
        self.assertEqual(answer, {"size": 4096, "nodes": 7})
        self.assertEqual(self.in_thread[0][1:], ("", Path("/var/backups/registry.db")))
        self.assertEqual(self.audit(), [("backed up", "/var/backups/registry.db", "uid 7")])
        self.failureResultOf(self.call(Backup, path="registry.db"), BadArguments)

    def test_failed(self) -> None:
        """The sentence says why; nothing is noted."""
        self.administration._in_thread = lambda function, *arguments: function(*arguments)
        failure = self.failureResultOf(self.call(Backup, path="/nowhere/x"), NotDone)
        self.assertEqual(
            str(failure.value),
            "The backup failed: --db: a database in memory cannot be copied; keep it in a file.",
        )
        self.assertEqual(self.audit(), [])


class BoundTests(AdminCase):
    """Mails to one address."""

    def test_tokens_per_hour(self) -> None:
        """So many and no more, until the first is an hour old; others are not concerned."""
        registry, mailer = self.parts.registry, self.parts.mailer

        def ask(email: str) -> Deferred[None]:
            return Deferred.fromCoroutine(registry.request_token(email))

        for _ in range(TOKENS_PER_HOUR):
            self.successResultOf(ask("a@b.example"))
            self.parts.clock.advance(1)
        failure = self.failureResultOf(ask("A@B.example"), TooManyTokens)
        self.assertIn("was sent 5 tokens within an hour", str(failure.value))
        self.successResultOf(ask("b@b.example"))
        self.assertEqual(len(mailer.sent), TOKENS_PER_HOUR + 1)
        self.parts.clock.advance(HOUR - TOKENS_PER_HOUR)
        self.successResultOf(ask("a@b.example"))
        self.failureResultOf(ask("a@b.example"), TooManyTokens)

    def test_used_ones_count(self) -> None:
        """That a token was used makes no room for another mail."""
        for _ in range(TOKENS_PER_HOUR):
            self.parts.enrol()
        asked = Deferred.fromCoroutine(self.parts.registry.request_token("a@b.example"))
        self.failureResultOf(asked, TooManyTokens)


class AddressesTests(SynchronousTestCase):
    """Where those who are invited are sent."""

    def test_choice(self) -> None:
        """The operator's names, else the addresses that are listened on, else those of this machine."""
        own = [a for a in source_addresses() if not a.startswith("fe80")]
        inside = str(NETWORK.address(Prefix(1, 16)))
        for names, interfaces, expected in (
            (["r.example", "192.0.2.1", "r.example"], ["192.0.2.9"], ["r.example", "192.0.2.1"]),
            ([inside], ["0.0.0.0", "::", "192.0.2.9"], ["192.0.2.9"]),
            ([], [], own or ["host"]),
            (["a", "b", "c", "d", "e"], [], ["a", "b", "c", "d"]),
        ):
            self.assertEqual(addresses(names, interfaces, "host", NETWORK), expected)
