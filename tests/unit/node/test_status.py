"""The status socket."""

import json
from pathlib import Path

from twisted.internet import defer, endpoints, protocol, reactor
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from vifibnet.model.status import ChildStatus, NodeStatus, ParametersStatus, RegistryStatus, TunnelStatus
from vifibnet.node.status import StatusServer

STATUS = NodeStatus(
    prefix="5/16",
    address="2001:db8:42:5::1",
    subnet="2001:db8:42:5::/64",
    network="2001:db8:42::/48",
    pid=123,
    started=1760000000.0,
    now=1760010800.0,
    endpoints="192.0.2.1,1194,udp",
    tunnels=(TunnelStatus("vifc0", "7/16", "192.0.2.2,1194,udp", True, 1.0, 3, 1234, "why"),),
    served=(),
    neighbours=(),
    routes=(),
    registry=RegistryStatus(True, 1760000001.0, "192.0.2.1"),
    peers_known=5,
    certificate_expires=1790000000.0,
    authority_expires=2000000000.0,
    parameters=ParametersStatus(7, {"hello": "0.5", "babel-key": "set"}),
    drained=None,
    children=(ChildStatus("babeld", "running", 1760000000.0, 124, 0, "", None),),
)


class Reader(protocol.Protocol):
    """Collects until the end."""

    def __init__(self) -> None:
        self.data = b""
        self.done: defer.Deferred[bytes] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        """Hand it over."""
        self.done.callback(self.data)


class StatusServerTests(TestCase):
    """A real socket."""

    async def test_one_document_and_the_end(self) -> None:
        """A connection gets JSON and is closed, also where a killed run left a socket behind."""
        path = short_directory(self) / "status.sock"
        path.touch()
        server = StatusServer(reactor, path, lambda: STATUS)
        server.startService()
        self.addCleanup(server.stopService)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        reader = Reader()
        await endpoints.connectProtocol(endpoints.UNIXClientEndpoint(reactor, str(path)), reader)
        document = json.loads(await reader.done)
        self.assertEqual(document["prefix"], "5/16")
        self.assertEqual(document["tunnels"][0]["peer"], "7/16")
        self.assertEqual(
            document["registry"], {"connected": True, "since": 1760000001.0, "seen": "192.0.2.1"}
        )
        await server.stopService()
        self.assertFalse(path.exists())

    async def test_a_node_without_it_is_a_node(self) -> None:
        """Where no socket can be made the error is logged and that is all."""
        server = StatusServer(reactor, Path(self.mktemp()) / "absent" / "status.sock", lambda: STATUS)
        server.startService()
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        await server.stopService()
