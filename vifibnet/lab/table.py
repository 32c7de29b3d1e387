"""The table of a lab's nodes, for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vifibnet.lab.report import LabReport, NodeReport

HEADINGS = ("name", "address", "tunnels to", "serves", "neighbours", "routes", "seconds to all")
_NUMBERS = frozenset((4, 5, 6))


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


def node_row(node: NodeReport, names: int = 6) -> tuple[str, ...]:
    """A node's cells; of more than ``names`` tunnels only the first are named."""

    def listed(peers: Sequence[str]) -> str:
        more = f" +{len(peers) - names}" if len(peers) > names else ""
        return " ".join(peers[:names]) + more or "–"

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


def node_table(report: LabReport) -> list[str]:
    """The lines of the table; a tunnel in parentheses is not up yet."""
    return columns(HEADINGS, [node_row(node) for node in report.nodes], _NUMBERS)
