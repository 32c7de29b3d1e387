"""Setting the network's parameters, over a connection in memory, and what the nodes are given."""

from __future__ import annotations

from typing import Any

from tests.unit.registry.parts import NOW
from tests.unit.registry.test_admin import AdminCase
from tests.unit.registry.test_amp import Node
from vifibnet.errors import BadParameter
from vifibnet.model.parameters import Values, write
from vifibnet.pki.document import read_document
from vifibnet.registry.parameters import BEGINNING, KEY_BYTES
from vifibnet.store.audit import REGISTRY
from vifibnet.wire.admin import SetParameters
from vifibnet.wire.amp import GetDocument
from vifibnet.wire.document import Kind
from vifibnet.wire.parameters import parse_parameters


class ParametersCase(AdminCase):
    """A registry whose parameters nobody has set yet."""

    def setUp(self) -> None:
        super().setUp()
        self.parameters = self.parts.registry.parameters

    def current(self) -> tuple[int, bytes]:
        """The document and its number."""
        return self.parts.registry.documents.current(Kind.PARAMETERS)

    def in_force(self) -> Values:
        """What the document says."""
        _, data = self.current()
        return parse_parameters(read_document(data, Kind.PARAMETERS, [self.parts.authority.ca]).lines)

    def set(self, **changes: str | None) -> dict[str, Any]:
        """Have some set; an underscore stands for a hyphen."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in changes.items()]
        return self.successResultOf(self.call(SetParameters, changes=wanted))

    def refused(self, **changes: str | None) -> str:
        """The sentence."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in changes.items()]
        failure = self.failureResultOf(self.call(SetParameters, changes=wanted), BadParameter)
        return str(failure.value)


class SetTests(ParametersCase):
    """What is set, and who hears of it."""

    def test_set(self) -> None:
        """All connected nodes are told once, and get the document; setting the same again is no change."""
        one, two = Node(self.parts), Node(self.parts)
        answer = self.set(hello="0.50", mtu="1380")
        number = int(NOW)
        self.assertEqual(
            answer,
            {
                "before": [],
                "after": [
                    {"name": "hello", "value": "0.5", "changed": NOW},
                    {"name": "mtu", "value": "1380", "changed": NOW},
                ],
                "changed": ["hello", "mtu"],
                "number": number,
                "told": 2,
            },
        )
        for node in (one, two):
            node.pump.flush()
            self.assertEqual(node.amp.numbers, [number])
            got = self.successResultOf(node.call(GetDocument, kind="parameters", number=0, offset=0))
            self.assertEqual((got["number"], got["piece"]), self.current())
        self.assertEqual(self.in_force(), {"hello": 0.5, "mtu": 1380})
        again = self.set(hello="0.5", mtu=None, update_interval=None)
        self.assertEqual((again["changed"], again["number"]), (["mtu"], number + 1))
        again = self.set(hello="0.5")
        self.assertEqual((again["changed"], again["number"], again["told"]), ([], number + 1, 0))
        self.assertEqual(self.in_force(), {"hello": 0.5})
        self.assertEqual(self.audit()[-1], ("parameter set", "mtu=", "uid 7"))

    def test_list(self) -> None:
        """Without changes it is only told what they are, without the secret."""
        self.set(hello="1", babel_key="new")
        answer = self.set()
        self.assertEqual(answer["before"], answer["after"])
        self.assertEqual(
            answer["after"],
            [
                {"name": "babel-key", "value": None, "changed": NOW},
                {"name": "hello", "value": "1", "changed": NOW},
            ],
        )

    def test_refused(self) -> None:
        """One sentence says what would be right, and nothing has changed, also nothing that was right."""
        for changes, sentence in (
            ({"hello": "0"}, "The parameter hello=0 is refused: it takes seconds from 0.05 to 600."),
            ({"mtu": "1e3"}, "The parameter mtu=1e3 is refused: it takes bytes from 1280 to 9000."),
            ({"max_clients": "many"}, "it takes peers from 1 to 10000"),
            ({"helo": "1"}, "The parameter helo is refused: there is none of that name, but hello, "),
            ({"babel_key": "00" * 16}, "babel-key=new makes one, babel-key= removes it"),
            ({"update_interval": "5"}, "(hello=15, the default)"),
            ({"x" * 99: None}, "x" * 40 + " is refused"),
        ):
            said = self.refused(**{"roll": "10", **changes})
            self.assertIn(sentence, said)
            self.assertNotIn("00" * 16, said)
        self.assertEqual(
            (self.current()[0], self.in_force(), self.audit()),
            (0, {}, []),
        )
        self.set(hello="2", update_interval="5")
        self.assertIn("(hello=6)", self.refused(hello="6"))


class KeyTests(ParametersCase):
    """Babel's key."""

    def test_first_start(self) -> None:
        """Makes a key, once, and sets what a new network begins with; what was removed stays away."""
        self.parameters.first_start()
        self.assertEqual({name: write(self.in_force()[name]) for name in BEGINNING}, BEGINNING)
        key = self.in_force()["babel-key"]
        assert isinstance(key, bytes)
        self.assertEqual(len(key), KEY_BYTES)
        self.assertEqual(
            self.audit(),
            [
                ("parameter set", "hello=1", REGISTRY),
                ("parameter set", "update-interval=20", REGISTRY),
                ("parameter set", "babel-key", REGISTRY),
            ],
        )
        self.parameters.first_start()
        self.assertEqual(self.in_force()["babel-key"], key)
        self.set(babel_key="new")
        self.assertNotEqual(self.in_force()["babel-key"], key)
        self.set(babel_key=None, hello=None, update_interval=None)
        self.parameters.first_start()
        self.assertEqual(self.in_force(), {})

    def test_full_disk(self) -> None:
        """A start with a database that cannot be written goes on without."""
        self.parts.store._db.execute("PRAGMA query_only = 1")
        self.parameters.first_start()
        self.assertEqual(self.in_force(), {})
