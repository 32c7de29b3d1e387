"""What is read from the words of ``vifibnet set``, and how parameters are shown."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli.set import described, listed, read_changes, report
from vifibnet.errors import BadInput
from vifibnet.model.parameters import PARAMETERS

HELLO: dict[str, Any] = {"name": "hello", "value": "0.5", "changed": 1.8e9}
KEY: dict[str, Any] = {"name": "babel-key", "value": None, "changed": 1.8e9}
SETTINGS = {"hello": HELLO, "babel-key": KEY}


class ReadTests(SynchronousTestCase):
    """The words."""

    def test_changes(self) -> None:
        """Values and defaults."""
        self.assertEqual(read_changes([]), {})
        self.assertEqual(read_changes(["hello=1", "mtu=", "x=a=b"]), {"hello": "1", "mtu": None, "x": "a=b"})

    def test_refused(self) -> None:
        """One sentence."""
        for words, part in (
            (["hello"], "hello: is no change; write NAME=VALUE"),
            (["=5"], "is no change"),
            (["mtu=1300", "mtu="], "mtu is given twice"),
        ):
            error = self.assertRaises(BadInput, read_changes, words)
            self.assertIn(part, str(error))


class ShowTests(SynchronousTestCase):
    """The list and the report."""

    def test_list(self) -> None:
        """All of them, by when a change applies, in a terminal's width; the secret's value nobody sees."""
        lines = "\n".join(listed(SETTINGS, 100)).splitlines()
        self.assertLessEqual(max(map(len, lines)), 100)
        text = "\n".join(lines)
        self.assertRegex(text, r"\n  hello +0\.5 +babel's hello interval \(seconds\)\n")
        self.assertRegex(text, r"\n  mtu +1400 \* ")
        self.assertRegex(text, r"\n  update-interval +none \* ")
        self.assertRegex(text, r"\n  babel-key +set \(since 2027-01-15\) ")
        for name in PARAMETERS:
            self.assertIn(f"  {name} ", text)

    def test_json(self) -> None:
        """Every parameter with everything that is known of it but a secret's value."""
        found = {each["name"]: each for each in described(SETTINGS)}
        self.assertEqual(found.keys(), PARAMETERS.keys())
        self.assertEqual((found["hello"]["value"], found["hello"]["default"]), (0.5, 15.0))
        self.assertEqual((found["babel-key"]["value"], found["babel-key"]["changed"]), (True, 1.8e9))
        self.assertEqual((found["mtu"]["value"], found["mtu"]["changed"]), (None, None))

    def test_report(self) -> None:
        """What was changed, when it applies, who was told, and what to mind."""
        answer: dict[str, Any] = {
            "before": [{"name": "mtu", "value": "1300", "changed": 1.7e9}],
            "after": [{**HELLO, "value": "0.1"}, KEY],
            "changed": ["hello", "mtu", "babel-key"],
            "number": 1800000000,
            "told": 1,
        }
        lines = list(report(answer, 200))
        self.assertEqual(
            lines[:3],
            [
                "hello: 0.1 (was 15, the default), applies when babeld is started anew, within the roll",
                "mtu: 1400, the default (was 1300), applies when each openvpn is started anew, one after"
                " another within the roll",
                "babel-key: set (since 2027-01-15), applies at once",
            ],
        )
        self.assertIn("1 node connected to the registry and told at once", lines[3])
        self.assertIn("number 1800000000", lines[3])
        self.assertEqual([line[:13] for line in lines[4:]], ["Mind: A hello"])
        answer = {**answer, "changed": []}
        self.assertEqual(list(report(answer, 200)), ["All of that is so already; nothing was changed."])

    def test_no_key(self) -> None:
        """Is no default, and a warning when it is new."""
        none = {**KEY, "value": ""}
        self.assertIn("  babel-key        none    ", "\n".join(listed({"babel-key": none}, 100)))
        self.assertIsNone(next(each for each in described({"babel-key": none}) if each["secret"])["value"])
        answer = {"before": [KEY], "after": [none], "changed": ["babel-key"], "number": 7, "told": 0}
        said = "\n".join(report(answer, 200))
        self.assertIn("babel-key: none, applies at once", said)
        self.assertIn("Mind: Without a key", said)
