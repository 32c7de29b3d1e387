"""From a node's status document to the table and the JSON document."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.report import LabReport, in_order, node_report
from vifibnet.lab.settings import Host
from vifibnet.lab.table import columns, node_table

HOST = Host(
    index=1,
    namespace="vifib-x-h1",
    underlay="192.0.2.2",
    prefix="5/16",
    address="2001:db8:42:5::1",
    subnet="2001:db8:42:5::/64",
    started=100.0,
    seconds_to_all=1.23456,
)


def route(end: str, interface: str, metric: int, via: str = "") -> dict[str, Any]:
    """A route to a node's subnet, as the status document has it."""
    return {
        "prefix": f"2001:db8:42:{end}::/64",
        "interface": interface,
        "metric": metric,
        "installed": not via,
        "via": via or f"fe80::{end}",
    }


NAMES = {"5/16": "h1", "7/16": "h2", "9/16": "h10", "8/16": "h3"}
STATUS: dict[str, Any] = {
    "prefix": "5/16",
    "address": "2001:db8:42:5::1",
    "subnet": "2001:db8:42:5::/64",
    "network": "2001:db8:42::/48",
    "pid": 123,
    "started": 100.0,
    "endpoints": "192.0.2.2,1194,udp",
    "tunnels": [
        {"tap": "vifc0", "peer": "7/16", "remote": "", "up": True, "since": 1.0, "routes": 3, "traffic": 1},
        {"tap": "vifc1", "peer": "6/16", "remote": "", "up": False, "since": 1.0, "routes": 0, "traffic": 0},
    ],
    "served": [
        {"peer": "9/16", "address": "192.0.2.11", "server": "vifs0"},
        {"peer": "8/16", "address": "192.0.2.4", "server": "vifs0"},
    ],
    "neighbours": [
        {"address": "fe80::7", "interface": "vifc0", "cost": 96},
        {"address": "fe80::8", "interface": "vifs0", "cost": 96},
        {"address": "fe80::9", "interface": "vifs0", "cost": 96},
        {"address": "fe80::10", "interface": "vifs0", "cost": 65535},
    ],
    "routes": [
        route("7", "vifc0", 96),
        route("8", "vifs0", 96),
        route("7", "vifs0", 192, "fe80::9"),
        route("9", "vifc0", 65535),
    ],
    "registry": {"connected": True, "seen": "192.0.2.2"},
    "peers_known": 5,
}  # fmt: skip


class ReportTests(SynchronousTestCase):
    """One document, and none."""

    def test_names(self) -> None:
        """Peers have the lab's names, strangers their prefix; a neighbour is known by its subnet."""
        node = node_report(HOST, NAMES, STATUS)
        self.assertTrue(node.running)
        self.assertEqual(node.tunnels, ("h2",))
        self.assertEqual(node.opening, ("6/16",))
        self.assertEqual(node.served, ("h3", "h10"))
        self.assertEqual(node.neighbours, ("h2", "h3", "fe80::9%vifs0"))
        self.assertEqual(node.routes, ("2001:db8:42:7::/64", "2001:db8:42:8::/64"))

    def test_no_node(self) -> None:
        """Of a host without a node, what was known before is said."""
        node = node_report(HOST, NAMES, None)
        self.assertEqual((node.running, node.address, node.tunnels), (False, HOST.address, ()))

    def test_json(self) -> None:
        """The document has the words that were promised."""
        report = LabReport(
            True, 12.34567, (node_report(HOST, NAMES, STATUS),), frozenset({frozenset(("h2", "h1"))})
        )
        document = json.loads(report.to_json())
        self.assertIs(document["all_reached"], True)
        self.assertEqual(document["seconds"], 12.346)
        self.assertEqual(document["cuts"], [["h1", "h2"]])
        node = document["nodes"][0]
        self.assertEqual(
            set(node),
            {
                "name",
                "address",
                "subnet",
                "tunnels",
                "served",
                "neighbours",
                "routes",
                "seconds_to_all",
                "running",
            },
        )
        self.assertEqual((node["name"], node["tunnels"], node["seconds_to_all"]), ("h1", ["h2"], 1.235))

    def test_table(self) -> None:
        """One row for each node, also for one that is gone."""
        gone = node_report(HOST, NAMES, None)
        table = node_table(LabReport(False, None, (node_report(HOST, NAMES, STATUS), gone)))
        self.assertEqual(len(table), 4)
        self.assertEqual(
            table[2].split(), ["h1", "2001:db8:42:5::1", "h2", "(6/16)", "h3", "h10", "3", "2", "1.23"]
        )
        self.assertEqual(table[3].split(), ["h1", "2001:db8:42:5::1", "not", "running"])
        self.assertTrue(all(len(line) <= 80 for line in table))

    def test_table_fits(self) -> None:
        """Of many peers only some are named, so that the table fits; the others are counted."""
        many = {**STATUS, "served": [{**STATUS["served"][0], "peer": f"{n}/16"} for n in range(20, 40)]}
        report = LabReport(True, None, (node_report(HOST, NAMES, many),))
        for width in (100, 90, 80, 72):
            table = node_table(report, width)
            self.assertTrue(all(len(line) <= width for line in table), table)
        self.assertIn("20/16 +19", table[2])

    def test_edges(self) -> None:
        """A tunnel joins its two ends, whoever opened it."""
        report = LabReport(True, None, (node_report(HOST, NAMES, STATUS),))
        self.assertEqual(report.edges, {frozenset(("h1", "h2"))})

    def test_order(self) -> None:
        """h10 comes after h9, subnets by address, whatever else last."""
        mixed = ["2001:db8:42:10::/64", "h10", "x", "h9", "2001:db8:42:9::/64"]
        self.assertEqual(in_order(mixed), ("h9", "h10", "2001:db8:42:9::/64", "2001:db8:42:10::/64", "x"))

    def test_columns(self) -> None:
        """Words stand to the left, numbers to the right."""
        lines = columns(("a", "number"), [("long word", "1"), ("x", "23")], frozenset((1,)))
        self.assertEqual(
            lines, ["a          number", "─────────  ──────", "long word       1", "x              23"]
        )
