"""babeld's command line, its configuration and the lines of its control socket."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.wire.babeld import (
    BabeldSettings,
    Change,
    Interface,
    Neighbour,
    Reply,
    Route,
    Xroute,
    change,
    command,
    configuration,
    parse_monitor,
)

SETTINGS = BabeldSettings(
    Network.parse("2001:db8:42::/48"), Prefix(5, 16), ("vifc0", "vifs0"), Path("/state dir"), Path("/log dir")
)


KEY = bytes(range(16))


def statements(settings: BabeldSettings) -> list[str]:
    """The lines of the configuration."""
    return configuration(settings).splitlines()


class ConfigurationTests(SynchronousTestCase):
    """The configuration file and the command line."""

    def test_filters(self) -> None:
        """Our subnet goes out and nothing else; the network comes in, but for our subnet."""
        rules = [rule for rule in statements(SETTINGS) if rule.startswith(("redistribute", "in ", "install"))]
        self.assertEqual(
            rules,
            [
                "redistribute ip 2001:db8:42:5::/64 eq 64 allow",
                "redistribute local deny",
                "redistribute deny",
                "in ip 2001:db8:42:5::/64 deny",
                "in ip 2001:db8:42::/48 ge 48 allow",
                "in deny",
                "install pref-src 2001:db8:42:5::1",
            ],
        )

    def test_interfaces(self) -> None:
        """Each interface has all its parameters."""
        rules = statements(replace(SETTINGS, lan=("eth0",), hello=1.5))[-3:]
        self.assertEqual(
            rules,
            [
                'interface "vifc0" type tunnel hello-interval 1.5 update-interval 6 rtt-decay 10',
                'interface "vifs0" type tunnel hello-interval 1.5 update-interval 6 rtt-decay 10',
                'interface "eth0" type auto hello-interval 1.5 update-interval 6',
            ],
        )
        for rule in statements(replace(SETTINGS, lan=("eth0",), wireless=True))[-3:]:
            self.assertIn("type wireless", rule)

    def test_updates(self) -> None:
        """Full updates are neither too many nor too far between, unless somebody says otherwise."""
        for hello, update in ((0.2, "2"), (0.5, "2"), (1, "4"), (15, "20"), (0.0625, "2")):
            rule = statements(replace(SETTINGS, hello=hello))[-1]
            self.assertTrue(rule.endswith(f"update-interval {update} rtt-decay 10"), rule)
        rule = statements(replace(SETTINGS, update_interval=300))[-1]
        self.assertTrue(rule.endswith("hello-interval 15 update-interval 300 rtt-decay 10"), rule)

    def test_names(self) -> None:
        """An interface may be called anything."""
        rule = statements(replace(SETTINGS, lan=('a"b\\c',)))[-1]
        self.assertTrue(rule.startswith('interface "a\\"b\\\\c" type'), rule)

    def test_key(self) -> None:
        """With a key the LAN is signed and checked, not the tunnels, which openvpn authenticates; the key
        comes first; nobody else sees it."""
        settings = replace(SETTINGS, lan=("eth0",), key=KEY)
        rules = statements(settings)[-4:]
        self.assertEqual(rules[0], f"key id vifibnet type blake2s128 value {KEY.hex()}")
        self.assertEqual([rule.endswith(" key vifibnet") for rule in rules[1:]], [False, False, True])
        self.assertNotIn("key", configuration(SETTINGS))
        self.assertNotIn(KEY.hex(), " ".join(command(settings)))
        self.assertNotIn(str(KEY), repr(settings))

    def test_bad_key(self) -> None:
        """Keys that babeld would not take, or anybody could guess, are refused without being shown."""
        for length in (0, 15, 33):
            with self.assertRaises(BadInput) as caught:
                replace(SETTINGS, key=b"k" * length)
            self.assertIn(f"it has {length} bytes; give 16 to 32", str(caught.exception))
            self.assertNotIn("kk", str(caught.exception))

    def test_files(self) -> None:
        """All its files are ours."""
        words = command(replace(SETTINGS, verbose=2))
        options = dict(zip(words[1::2], words[2::2], strict=True))
        self.assertEqual(words[0], "babeld")
        self.assertEqual(options["-S"], "/state dir/vifibnet.babeld.state")
        self.assertEqual((options["-I"], options["-G"]), ("/state dir/babeld.pid", "/state dir/babeld.sock"))
        self.assertEqual(options["-L"], "/log dir/vifibnet-babeld.log")
        self.assertEqual(options["-c"], "/state dir/vifibnet-babeld.conf")
        self.assertEqual((options["-h"], options["-H"], options["-d"]), ("0.2", "0.2", "2"))
        fast = command(replace(SETTINGS, hello=0.05))
        self.assertEqual(fast[fast.index("-H") + 1], "0.05")


_SETTINGS = st.builds(
    replace,
    st.just(SETTINGS),
    tunnels=st.sampled_from([(), ("vifc0",), ("vifc0", "vifs0"), ("vifs0", "vifc0")]),
    lan=st.sampled_from([(), ("eth0",), ("vifc0",)]),
    hello=st.sampled_from([0.5, 15]),
    update_interval=st.sampled_from([None, 20]),
    key=st.sampled_from([None, KEY, KEY * 2]),
)


class ChangeTests(SynchronousTestCase):
    """What a running babeld can be told."""

    def test_nothing(self) -> None:
        """Where nothing differs, there is nothing to say."""
        self.assertEqual(change(SETTINGS, SETTINGS), ())
        self.assertEqual(change(SETTINGS, replace(SETTINGS, tunnels=("vifs0", "vifc0"))), ())

    def test_key(self) -> None:
        """A new value for a key is told; the first key, and no more key, needs another start."""
        old, new = replace(SETTINGS, key=KEY), replace(SETTINGS, key=KEY * 2)
        self.assertEqual(change(old, new), (f"key id vifibnet type blake2s128 value {(KEY * 2).hex()}",))
        self.assertIsNone(change(SETTINGS, new))
        self.assertIsNone(change(old, SETTINGS))

    def test_interfaces(self) -> None:
        """New interfaces are told, with everything about them; one that goes needs another start."""
        more = replace(SETTINGS, tunnels=("vifc0", "vifc1", "vifs0"), lan=("eth0",))
        self.assertEqual(
            change(SETTINGS, more),
            (
                'interface "vifc1" type tunnel hello-interval 15 update-interval 20 rtt-decay 10',
                'interface "eth0" type auto hello-interval 15 update-interval 20',
            ),
        )
        self.assertIsNone(change(more, SETTINGS))

    def test_rest(self) -> None:
        """What a running babeld would forget or refuse needs another start."""
        for other in (
            replace(SETTINGS, hello=1),
            replace(SETTINGS, update_interval=5),
            replace(SETTINGS, wireless=True),
            replace(SETTINGS, prefix=Prefix(6, 16)),
            replace(SETTINGS, tunnels=("vifc0",), lan=("vifs0",)),
        ):
            self.assertIsNone(change(SETTINGS, other))

    @given(_SETTINGS, _SETTINGS)
    def test_same_as_a_start(self, old: BabeldSettings, new: BabeldSettings) -> None:
        """What is told makes of the old configuration the new one: a line about a key replaces the one
        before."""
        lines = change(old, new)
        if lines is None:
            self.assertNotEqual(old, new)
            return
        keys = [line for line in lines if line.startswith("key ")]
        kept = [line for line in statements(old) if not (keys and line.startswith("key "))]
        self.assertEqual(sorted([*kept, *lines]), sorted(statements(new)))


_WORDS = st.sampled_from(
    [
        *(
            "add",
            "change",
            "flush",
            "ok",
            "no",
            "interface",
            "neighbour",
            "xroute",
            "route",
            "up",
            "true",
            "yes",
        ),
        *("installed", "prefix", "2001:db8::/64", "2001:db8::1/64", "metric", "96", "-1", "refmetric", "via"),
        *("fe80::1", "if", "address", "reach", "ffff", "rxcost", "txcost", "cost", "rtt", "1.5", "nan", "id"),
    ]
)
_LINES = st.one_of(st.text(), st.lists(_WORDS, max_size=24).map(" ".join))


class MonitorTests(SynchronousTestCase):
    """The lines, as babeld 1.12.1 has sent them."""

    def test_interface(self) -> None:
        """Interfaces."""
        for line, expected in (
            (
                "add interface ab0 up true ipv6 fe80::10a4:6fff:fe1b:6b42",
                Interface("ab0", True, "fe80::10a4:6fff:fe1b:6b42"),
            ),
            ("add interface ab0 up true ipv6 fe80::1 ipv4 10.0.0.1", Interface("ab0", True, "fe80::1")),
            ("add interface vifc0 up false", Interface("vifc0", False)),
        ):
            self.assertEqual(parse_monitor(line), Change("add", expected))

    def test_neighbour(self) -> None:
        """Neighbours, with and without a round-trip time."""
        line = "add neighbour 560f11a22720 address fe80::8037:1 if ab0 reach c000 "
        line += "ureach 0000 rxcost 96 txcost 65535 cost 65535"
        self.assertEqual(
            parse_monitor(line),
            Change("add", Neighbour("560f11a22720", "fe80::8037:1", "ab0", 0xC000, 96, 65535, 65535)),
        )
        line = "change neighbour 562b address fe80::1 if rt0 reach ffe0 ureach 0000 rxcost 96 "
        line += "txcost 96 rtt 15.901 rttcost 114 cost 210"
        self.assertEqual(
            parse_monitor(line),
            Change("change", Neighbour("562b", "fe80::1", "rt0", 0xFFE0, 96, 96, 210, 15.901)),
        )

    def test_routes(self) -> None:
        """Routes, ours and others'."""
        self.assertEqual(
            parse_monitor("add xroute 2001:db8:42:1::/64-::/0 prefix 2001:db8:42:1::/64 from ::/0 metric 0"),
            Change("add", Xroute("2001:db8:42:1::/64-::/0", IPv6Network("2001:db8:42:1::/64"), 0)),
        )
        line = "flush route 560f prefix 2001:db8:42:2::/64 from ::/0 installed yes "
        line += "id bc:1c:92:c6:9b:cc:14:cf metric 192 refmetric 96 via fe80::1 if ab0"
        route = Route("560f", IPv6Network("2001:db8:42:2::/64"), True, 192, 96, "fe80::1", "ab0")
        self.assertEqual(parse_monitor(line), Change("flush", route))
        self.assertTrue(route.reachable)
        self.assertFalse(replace(route, installed=False).reachable)
        self.assertFalse(replace(route, metric=65535).reachable)

    def test_replies(self) -> None:
        """The ends of answers."""
        self.assertEqual(parse_monitor("ok"), Reply("ok"))
        self.assertEqual(parse_monitor("no such thing"), Reply("no", "such thing"))
        self.assertEqual(parse_monitor("bad"), Reply("bad"))

    def test_ignored(self) -> None:
        """The greeting, and what is not understood."""
        for line in (
            "BABEL 1.0",
            "version babeld-1.12.1",
            "my-id 04:53:7e:30:78:30:2a:4e",
            "add thing x up true",
            "add route 1 prefix 10.0.0.0/8 from ::/0 installed yes metric 1 refmetric 0 via fe80::1 if x",
            "add interface x up perhaps",
            "add",
        ):
            self.assertIsNone(parse_monitor(line))

    @given(_LINES)
    def test_any_line(self, line: str) -> None:
        """Any line is understood or ignored."""
        parse_monitor(line)
