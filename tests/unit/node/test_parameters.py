"""The network's parameters as a node keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import config
from tests.unit.pki.making import NETWORK, authority, authority_of, parameters
from vifibnet.errors import BadDocument
from vifibnet.model.parameters import Values
from vifibnet.node.config import NodeConfig
from vifibnet.node.parameters import Parameters
from vifibnet.pki.authority import create_authority
from vifibnet.wire.document import Kind

KEY = bytes(range(100, 116))


class ParametersTests(SynchronousTestCase):
    """A node whose command line says how many tunnels it wants."""

    def setUp(self) -> None:
        """Nothing was ever heard of."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.told: list[NodeConfig] = []
        self.events = self.enterContext(capturedLogs())
        self.parameters = self.make()

    def said(self) -> str:
        """What was logged."""
        return "\n".join(map(formatEvent, self.events))

    def make(self) -> Parameters:
        """As a node that starts."""
        base = config(self.directory, connection_count=3, given=frozenset({"connection-count"}))
        cas = [authority().ca]
        made = Parameters(base, lambda: cas, lambda: cas, self.told.append)
        made.document.load()
        return made

    def test_none(self) -> None:
        """What the command line says, and the defaults."""
        self.assertEqual((self.parameters.number, self.parameters.config.hello), (0, 15))
        self.assertEqual(self.parameters.status().number, 0)

    def test_take(self) -> None:
        """What is new is told, without secrets, and kept for the next run."""
        values: Values = {"hello": 0.5, "connection-count": 9, "babel-key": KEY}
        self.parameters.take(parameters(authority(), 7, values))
        [told] = self.told
        self.assertEqual((told.hello, told.connection_count, told.babel_key), (0.5, 3, KEY))
        text = self.said()
        self.assertIn(
            "network parameters 7: babel-key a new one, connection-count 9"
            " (overridden by our command line), hello 0.5",
            text,
        )
        self.assertNotIn(KEY.hex(), text)
        again = self.make()
        self.assertEqual((again.number, again.config), (7, told))
        self.assertEqual((self.directory / Kind.PARAMETERS).stat().st_mode & 0o777, 0o600)

    def test_back(self) -> None:
        """A parameter that is not set any more."""
        self.parameters.take(parameters(authority(), 7, {"hello": 0.5}))
        self.parameters.take(parameters(authority(), 8, {}))
        self.assertEqual(self.told[-1].hello, 15)
        self.assertIn("network parameters 8: hello back to its default", self.said())

    def test_old(self) -> None:
        """Nothing happens upon one that is not newer."""
        self.parameters.take(parameters(authority(), 7, {"hello": 0.5}))
        for number in (6, 7):
            self.parameters.take(parameters(authority(), number, {"hello": 1.0}))
        self.assertEqual(len(self.told), 1)

    def test_strangers(self) -> None:
        """Nor upon another network's."""
        other = authority_of(*create_authority(NETWORK, now=datetime.now(UTC), days=10))
        self.assertRaises(BadDocument, self.parameters.take, parameters(other, 9, {"hello": 0.5}))
        self.assertEqual((self.told, self.parameters.number), ([], 0))

    def test_status(self) -> None:
        """What holds, by name, as vifibnet set takes it; that there is a key, but not which."""
        self.parameters.take(parameters(authority(), 7, {"hello": 0.5, "babel-key": KEY}))
        status = self.parameters.status()
        self.assertEqual(status.number, 7)
        self.assertEqual(
            status.values,
            {
                "hello": "0.5",
                "heartbeat": "0.3",
                "mtu": "1400",
                "connection-count": "3",
                "max-clients": "256",
                "tunnel-refresh": "300",
                "refresh-rate": "0.05",
                "roll": "60",
                "babel-key": "set",
            },
        )
