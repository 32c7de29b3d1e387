"""The table of a lab's nodes, for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vifibnet.lab.report import LabReport, NodeReport

HEADINGS = ("name", "address", "tunnels", "served", "neighbours", "routes", "seconds")
LEGEND = (
    "tunnels: whom its openvpn clients are connected to, in parentheses while they are not yet; served: who "
    "is connected to its openvpn server; seconds: from its start until all others had answered its ping."
)
_NUMBERS = frozenset((4, 5, 6))
_NAMED = 8
"""How many peers are named in a cell at most."""


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int]) -> list[str]:
    """Lay out rows under their headings, two spaces apart; the columns in ``numbers`` stand to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        laid = (
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(laid).rstrip()

    return [line(headings), line(["─" * width for width in widths]), *map(line, rows)]


def node_row(node: NodeReport, named: int = _NAMED) -> tuple[str, ...]:
    """A node's cells; of more than ``named`` peers only the first are."""

    def listed(peers: Sequence[str]) -> str:
        more = f" +{len(peers) - named}" if len(peers) > named else ""
        return " ".join(peers[:named]) + more or "–"

    if not node.running:
        return (node.name, node.address, "not running", "", "", "", "")
    return (
        node.name,
        node.address,
        listed([*node.tunnels, *(f"({peer})" for peer in node.opening)]),
        listed(node.served),
        str(len(node.neighbours)),
        str(len(node.routes)),
        "–" if node.seconds_to_all is None else f"{node.seconds_to_all:.2f}",
    )


def node_table(report: LabReport, width: int = 100) -> list[str]:
    """The lines of the table, with as many peers named as fit into the width."""
    for named in range(_NAMED, 0, -1):
        table = columns(HEADINGS, [node_row(node, named) for node in report.nodes], _NUMBERS)
        if max(map(len, table)) <= width:
            break
    return table
