"""The options of ``vifibnet lab``."""

from __future__ import annotations

import argparse
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli import lab
from vifibnet.lab.settings import LabSettings


def parse(line: str) -> argparse.Namespace:
    """Parse what stands behind ``vifibnet lab``."""
    parser = argparse.ArgumentParser(prog="vifibnet lab")
    lab.add_arguments(parser)
    return parser.parse_args(line.split())


class OptionsTests(SynchronousTestCase):
    """Command lines become settings."""

    def test_up(self) -> None:
        """All that a lab can be told."""
        args = parse(
            "up --nodes 5 --connection-count 3 --hello 0.5 --json --detach --dir /d --name x --proto"
            " tcp-server --mtu 1300 --network 2001:db8::/32 --underlay 6 --lan h1,h3 --node-option verbose"
        )
        self.assertTrue(args.json)
        self.assertTrue(args.detach)
        self.assertEqual(
            lab.settings(args),
            LabSettings(
                name="x",
                directory=Path("/d"),
                nodes=5,
                connection_count=3,
                hello=0.5,
                network="2001:db8::/32",
                proto="tcp-server",
                mtu=1300,
                underlay=6,
                lan=(1, 3),
                node_options=("verbose",),
            ),
        )

    def test_defaults(self) -> None:
        """The demonstration has a name of its own and a smaller hello interval."""
        self.assertEqual(lab.settings(parse("up")), LabSettings())
        self.assertEqual(lab.settings(parse("demo")), LabSettings(name="demo", hello=0.5))

    def test_actions(self) -> None:
        """Each subcommand has its arguments, and something that does it."""
        for line, hosts in (
            ("cut h1 h2", ["h1", "h2"]),
            ("heal h1 h2", ["h1", "h2"]),
            ("start h3", ["h3"]),
            ("stop h3", ["h3"]),
            ("kill h3", ["h3"]),
        ):
            args = parse(line)
            self.assertEqual(args.hosts, hosts)
            self.assertEqual(args.name, "lab")
            self.assertIn(args.action, lab.ACTIONS)
        for line in ("down", "status --json", "add", "up", "demo"):
            self.assertIn(parse(line).action, lab.ACTIONS)

    def test_exec(self) -> None:
        """What stands behind -- is the command, options and all."""
        args = parse("exec --name x h2 -- ip -6 route --json")
        self.assertEqual((args.name, args.host), ("x", "h2"))
        self.assertEqual(
            [word for word in args.command_line if word != "--"], ["ip", "-6", "route", "--json"]
        )

    def test_lan(self) -> None:
        """Hosts of a LAN are named as everywhere."""
        for bad in ("1,2", "h1,", "x1", "h"):
            self.assertRaises(SystemExit, parse, f"up --lan {bad}")
