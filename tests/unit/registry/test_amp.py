"""AMP between a node's certificate and the registry, over a connection in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.protocols.amp import AMP, Command, UnhandledCommand
from twisted.test.iosim import FakeTransport, IOPump, connect
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NETWORK, Parts
from vifibnet.errors import BadArguments, BadEndpoints, InternalError, NoPeerYet, UnknownNode
from vifibnet.model.addresses import Prefix
from vifibnet.pki.certificates import prefix_of
from vifibnet.registry.amp import NodeFace, _fitting
from vifibnet.wire.amp import MAX_VALUE, PEER, Declare, DocumentChanged, GetBootstrapPeer, GetPeers

ENDPOINTS = "192.0.2.1,1194,udp"


class Nonsense(Command):
    """A command that the registry does not have."""


class Told(AMP):
    """A node's end of the connection, which notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    @DocumentChanged.responder
    def document_changed(self, kind: str, number: int) -> dict[str, Any]:
        """Note it."""
        self.numbers.append(number)
        return {}


class Node:
    """A node that is connected."""

    def __init__(
        self,
        parts: Parts,
        source: str = "::ffff:192.0.2.7",
        certificate: x509.Certificate | None = None,
    ) -> None:
        self.certificate = certificate or parts.new_node()
        self.prefix = prefix_of(self.certificate)
        self.face = NodeFace(parts.registry, self.certificate)
        self.amp = Told()
        there: Any = FakeTransport(self.face, True, peerAddress=IPv6Address("TCP", source, 4000))
        here: Any = FakeTransport(self.amp, False)
        self.pump: IOPump = connect(self.face, there, self.amp, here)

    def call(self, command: type[Command], **arguments: object) -> Deferred[dict[str, Any]]:
        """Call and wait for the answer."""
        answer: Deferred[dict[str, Any]] = Deferred()
        # AMP logs an error that nobody awaits when it arrives.
        self.amp.callRemote(command, **arguments).addCallbacks(answer.callback, answer.errback)
        self.pump.flush()
        return answer


class NodeFaceTests(SynchronousTestCase):
    """What nodes can ask."""

    def setUp(self) -> None:
        """Make a registry and two nodes."""
        self.parts = Parts(Path(self.mktemp()))
        self.addCleanup(self.parts.store.close)
        self.one, self.two = Node(self.parts), Node(self.parts, str(NETWORK.address(Prefix(1, 16))))

    def test_declare(self) -> None:
        """What one declares the other is told, and each hears from where it was seen."""
        answer = self.successResultOf(self.one.call(Declare, endpoints=ENDPOINTS))
        self.assertEqual(answer, {"seen": "192.0.2.7"})
        peer = {"prefix": str(self.one.prefix), "endpoints": ENDPOINTS}
        seen = {"seen": "2001:db8:42:1::1"}
        self.assertEqual(self.successResultOf(self.two.call(GetPeers, count=5)), {"peers": [peer], **seen})
        self.assertEqual(self.successResultOf(self.two.call(GetBootstrapPeer)), {**peer, **seen})
        self.assertEqual(self.successResultOf(self.one.call(GetPeers, count=5))["peers"], [])
        self.successResultOf(self.one.call(Declare, endpoints=""))
        self.failureResultOf(self.two.call(GetBootstrapPeer), NoPeerYet)

    def test_refusals(self) -> None:
        """Each refusal arrives as what it is, with its sentence, and the connection stays."""
        self.successResultOf(self.one.call(Declare, endpoints=ENDPOINTS))
        self.failureResultOf(self.one.call(GetBootstrapPeer), NoPeerYet)
        for count in (0, -1, 1000):
            self.failureResultOf(self.one.call(GetPeers, count=count), BadArguments)
        failure = self.failureResultOf(self.one.call(Declare, endpoints="x"), BadEndpoints)
        self.assertEqual(
            str(failure.value), "The endpoints 'x' are refused: each must read address,port,proto."
        )
        self.successResultOf(self.two.call(GetBootstrapPeer))

    def test_no_longer_valid(self) -> None:
        """A certificate that expires on an open connection is refused from then on."""
        self.parts.clock.advance(366 * 24 * 3600)
        self.failureResultOf(self.one.call(GetPeers, count=5), UnknownNode)

    def test_never_issued(self) -> None:
        """A certificate that our CA signed and the database does not know is refused: it has forgotten it on
        purpose, or is not the one that it belongs to. Only a database made for a lost one asks further."""
        self.parts.store._db.execute("PRAGMA foreign_keys = OFF")
        self.parts.store._db.execute("DELETE FROM certificate WHERE bits = ?", (self.one.prefix.bits,))
        self.failureResultOf(self.one.call(Declare, endpoints=ENDPOINTS), UnknownNode)

    def test_internal_error(self) -> None:
        """What was not foreseen is logged; the node learns only that it happened, and stays connected."""
        self.parts.store.close()
        for _ in range(2):
            failure = self.failureResultOf(self.one.call(GetPeers, count=5), InternalError)
            self.assertEqual(str(failure.value), "The registry failed to answer; its log says why.")
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_unknown_command(self) -> None:
        """A command of a later version is no reason to hang up."""
        self.failureResultOf(self.one.call(Nonsense), UnhandledCommand)
        self.failureResultOf(self.one.call(GetBootstrapPeer), NoPeerYet)

    def test_long_answers(self) -> None:
        """More peers than fit into one AMP value: as many as fit."""
        endpoints = ";".join(f"192.0.2.{n},1194,tcp-client" for n in range(8))
        many = [(Prefix(n, 16), endpoints) for n in range(999)]
        fitting = _fitting(many)
        self.assertEqual([peer["prefix"] for peer in fitting], [str(p) for p, _ in many[: len(fitting)]])
        (_, argument) = GetPeers.response[0]
        written = len(argument.toStringProto(fitting, None))
        self.assertTrue(MAX_VALUE - 300 < written <= MAX_VALUE, written)
        self.assertEqual(len(_fitting(many[:100])), 100)
        self.assertEqual(len(PEER), 2)
