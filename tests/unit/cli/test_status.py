"""``vifibnet status``: what it prints."""

from __future__ import annotations

import argparse
import json
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.directories import short_directory
from tests.unit.node.test_status import STATUS
from vifibnet.cli import adminclient, status
from vifibnet.cli.metrics import METRICS, exposition, node_exposition
from vifibnet.cli.status import node_picture, registry_picture
from vifibnet.cli.tables import amount
from vifibnet.errors import BadInput, NodeNotRunning, RegistryNotRunning
from vifibnet.model.status import (
    ChildStatus,
    NeighbourStatus,
    NodeStatus,
    RegistryStatus,
    RouteStatus,
    ServedStatus,
)
from vifibnet.node.status import StatusServer

NOW = STATUS.now
YEAR = 365 * 86400
REGISTRY = {
    "network": "2001:db8:42::/48", "version": "1.2", "started": NOW - 90, "nodes": 3, "connected": 1,
    "tokens": 1, "declared": 2, "revocations": 0, "authority_expires": NOW + YEAR,
}  # fmt: skip


def document(made: NodeStatus) -> dict[str, object]:
    """As it comes out of the socket."""
    answer: dict[str, object] = json.loads(json.dumps(asdict(made)))
    return answer


class NodeTests(SynchronousTestCase):
    """A node."""

    def picture(self, made: NodeStatus = STATUS) -> str:
        """What there is to read."""
        return "\n".join(node_picture(document(made), NOW, 100))

    def test_picture(self) -> None:
        """Everything has its line."""
        route = RouteStatus("2001:db8:42:7::/64", "vifc0", 96, True, "fe80::1")
        tunnel = replace(STATUS.tunnels[0], since=NOW - 100)
        said = self.picture(
            replace(
                STATUS,
                children=(
                    *STATUS.children,
                    ChildStatus(
                        "openvpn server vifs0 (1194 udp)", "backing off", NOW - 1, None, 7,
                        "ended by SIGKILL", NOW - 1,
                    ),
                ),
                tunnels=(tunnel, replace(tunnel, tap="vifc1", up=False, remote=None, routes=0, traffic=0)),
                served=(ServedStatus("9/16", "192.0.2.9", "vifs0", NOW - 200000, 1_500_000),),
                neighbours=(NeighbourStatus("fe80::1", "vifc0", 65535),),
                routes=(
                    replace(route, prefix="2001:db8:42:10::/64"), route, replace(route, installed=False)
                ),
            )
        ).splitlines()  # fmt: skip
        self.assertEqual(
            said,
            [
                "node 5/16 of 2001:db8:42::/48, address 2001:db8:42:5::1, up for 3 h",
                "registry: connected for 2 h, it sees this node at 192.0.2.1",
                "others reach it at: 192.0.2.1,1194,udp",
                "certificate: until 2026-09-21; certificate authority: until 2033-05-18",
                "",
                "programs: 2",
                "  program                          state        for     process  restarts",
                "  babeld                           running      3 h     124      0",
                "  openvpn server vifs0 (1194 udp)  backing off  1 s     –        7",
                "  1 s ago openvpn server vifs0 (1194 udp) ended by SIGKILL",
                "",
                "tunnels: 2",
                "  peer   tap     age      remote              routes  traffic   why",
                "  7/16   vifc0   1 min    192.0.2.2,1194,udp  3       1.2 kB    why",
                "  7/16   vifc1   opening  –                   0       0 B       why",
                "",
                "served peers: 1",
                "  peer   on      age     from              traffic",
                "  9/16   vifs0   2 d     192.0.2.9         1.5 MB",
                "",
                "neighbours: 1",
                "  on      address                   cost",
                "  vifc0   fe80::1                   none",
                "",
                "routes: 2",
                "  to                   on      metric  via",
                "  2001:db8:42:7::/64   vifc0   96      fe80::1",
                "  2001:db8:42:10::/64  vifc0   96      fe80::1",
            ],
        )

    def test_metrics(self) -> None:
        """Numbers, and one line for each program."""
        lines = node_exposition(document(STATUS)).splitlines()
        self.assertIn('vifibnet_node_info{prefix="5/16",network="2001:db8:42::/48"} 1', lines)
        self.assertIn("vifibnet_node_tunnels 1", lines)
        self.assertIn('vifibnet_node_child_running{program="babeld"} 1', lines)
        self.assertIn("# TYPE vifibnet_node_child_restarts_total counter", lines)
        self.assertEqual(lines[-1], 'vifibnet_node_child_restarts_total{program="babeld"} 0')

    def test_registry(self) -> None:
        """It may be away, or there may be none."""
        away = RegistryStatus(connected=False, since=None, seen="192.0.2.1")
        said = self.picture(replace(STATUS, registry=away))
        self.assertIn("registry: not connected, it last saw this node at 192.0.2.1\n", said)
        said = self.picture(replace(STATUS, registry=replace(away, seen=None)))
        self.assertIn("registry: not connected\n", said)
        self.assertIn("registry: none was given\n", self.picture(replace(STATUS, registry=None)))

    def test_clock_set(self) -> None:
        """What it tells is as old as it says, whatever the machine's clock shows by now; of older nodes,
        which do not say, as old as that shows. Certificates end by the calendar."""
        made = document(STATUS)
        said = node_picture(made, NOW + YEAR, 100)
        self.assertIn("up for 3 h", said[0])
        self.assertEqual([line for line in said if "expire" in line], [])
        later = node_picture(made, STATUS.authority_expires + 1, 100)
        self.assertIn("expired on", "\n".join(later))
        del made["now"]
        self.assertNotEqual(node_picture(made, NOW + YEAR, 100)[0], said[0])

    def test_warning(self) -> None:
        """From 90 days before the authority's end."""
        for days, expected in ((91, None), (89.9, "expires in 89 days"), (1.5, "1 day,"), (-1, "expired on")):
            said = self.picture(replace(STATUS, authority_expires=NOW + days * 86400))
            warnings = [line for line in said.splitlines() if line.startswith("warning: ")]
            self.assertEqual(len(warnings), expected is not None)
            self.assertIn(expected or "", "".join(warnings))


class RegistryTests(SynchronousTestCase):
    """A registry."""

    def test_picture(self) -> None:
        """Six lines."""
        self.assertEqual(
            registry_picture(REGISTRY, NOW, 100),
            [
                "registry of 2001:db8:42::/48, version 1.2, up for 1 min",
                "3 nodes, 1 connected, 2 can be reached by others",
                "tokens that have not expired: 1",
                "revocation list: none yet",
                "certificate authority: until 2026-10-09",
            ],
        )
        said = registry_picture({**REGISTRY, "revocations": 7, "authority_expires": NOW + 100}, NOW, 100)
        self.assertEqual(said[3], "revocation list: 7")
        self.assertIn("warning: the certificate authority expires in 0 days", said[-1])

    def test_metrics(self) -> None:
        """Each with its help, its type and its value; whole numbers stay whole."""
        lines = exposition(REGISTRY).splitlines()
        self.assertEqual(len(lines), 3 * (len(METRICS) + 1))
        self.assertEqual(lines[2], 'vifibnet_info{network="2001:db8:42::/48",version="1.2"} 1')
        self.assertEqual(lines[4:6], ["# TYPE vifibnet_nodes gauge", "vifibnet_nodes 3"])
        self.assertEqual(lines[-1], f"vifibnet_ca_expiry_timestamp_seconds {NOW + YEAR:.0f}")

    @given(st.text())
    def test_labels(self, version: str) -> None:
        """Whatever a label says, it stays inside its quotation marks, on its line."""
        text = exposition({**REGISTRY, "version": version})
        [line] = [line for line in text.split("\n") if line.startswith("vifibnet_info")]
        said = line.partition(',version="')[2].removesuffix('"} 1')
        for escape, meant in (("\\\\", "\0"), ('\\"', '"'), ("\\n", "\n")):
            said = said.replace(escape, meant)
        self.assertEqual(said.replace("\0", "\\"), version.replace("\0", "\\"))

    def test_amount(self) -> None:
        """Bytes in one unit."""
        said = [amount(size) for size in (0, 999, 1000, 1_250_000, 10**12)]
        self.assertEqual(said, ["0 B", "999 B", "1.0 kB", "1.2 MB", "1000.0 GB"])


class CommandTests(TestCase):
    """The command and a status socket."""

    async def run_command(self, *words: str) -> str:
        """What it prints."""
        parser = argparse.ArgumentParser()
        status.add_arguments(parser)
        output = StringIO()
        with redirect_stdout(output):
            self.assertEqual(await status.run(reactor, parser.parse_args(words)), 0)
        return output.getvalue()

    async def refused(self, kind: type[Exception], *words: str) -> str:
        """The sentence."""
        try:
            await self.run_command(*words)
        except kind as error:
            return str(error)
        raise AssertionError("nothing was raised")

    async def test_node(self) -> None:
        """The picture or the raw document; a clear sentence where nobody is, or somebody too old."""
        directory = short_directory(self)
        said = await self.refused(NodeNotRunning, "--state", str(directory))
        self.assertIn(f"No node answers at {directory}/status.sock", said)
        self.assertIn(
            "too long for the sockets in it", await self.refused(BadInput, "--state", "/" + "x" * 99)
        )
        server = StatusServer(reactor, directory / "status.sock", lambda: STATUS)
        server.startService()
        self.addCleanup(server.stopService)
        self.assertIn("node 5/16 of", await self.run_command("--state", str(directory)))
        raw = await self.run_command("--state", str(directory), "--json")
        self.assertEqual(json.loads(raw), document(STATUS))
        self.assertIn(
            "vifibnet_node_tunnels 1\n", await self.run_command("--state", str(directory), "--metrics")
        )

    async def test_old_node(self) -> None:
        """One that was not restarted after an upgrade."""

        async def old(*arguments: object) -> dict[str, object]:
            return {"prefix": "5/16"}

        self.patch(status, "read_status", old)
        self.assertIn("restart it", await self.refused(BadInput, "--state", str(short_directory(self))))

    async def test_registry(self) -> None:
        """Nobody there, at the usual place or another; that one answers is shown with a real one."""
        self.patch(adminclient, "DATABASE", Path(self.mktemp()))
        database = self.mktemp()
        for words in (["--registry"], ["--registry", database], ["--socket", database]):
            said = await self.refused(RegistryNotRunning, *words)
        self.assertIn(database, said)
