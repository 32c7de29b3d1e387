"""Packets by interface, as the kernel counts them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.traffic import Traffic

HEADINGS = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
"""  # noqa: E501


def line(name: str, received: int, sent: int) -> str:
    """One interface's."""
    return f"{name:>6}: 900{received} {received} 0 0 0 0 0 7 800{sent} {sent} 0 0 0 0 0 0\n"


class TrafficTests(SynchronousTestCase):
    """The test is the kernel."""

    def setUp(self) -> None:
        self.text = ""
        self.traffic = Traffic(lambda: self.text)

    def look(self, *lines: str) -> dict[str, int]:
        """What there is to see now."""
        self.text = HEADINGS + "".join(lines)
        return dict(self.traffic.look())

    def test_counts(self) -> None:
        """Both ways together, from one look to the next."""
        self.assertEqual(self.look(line("lo", 5, 5), line("vifc0", 100, 10)), {})
        self.assertEqual(self.look(line("lo", 5, 5), line("vifc0", 103, 14)), {"lo": 0, "vifc0": 7})
        self.assertEqual(self.look(line("vifc0", 103, 15)), {"vifc0": 1})

    def test_new(self) -> None:
        """What has just come, or has come again, is not counted."""
        self.look(line("vifc0", 100, 10))
        self.assertEqual(self.look(line("vifc0", 3, 1), line("vifc1", 50, 0)), {})
        self.assertEqual(self.look(line("vifc0", 4, 1), line("vifc1", 50, 2)), {"vifc0": 1, "vifc1": 2})

    def test_nothing(self) -> None:
        """A kernel that does not tell, or tells something else."""
        self.look(line("vifc0", 1, 1))
        for text in ("", "nonsense", HEADINGS + "vifc0: 1 2\n", HEADINGS + "vifc0: a b c d e f g h i j k\n"):
            self.text = text
            self.assertEqual(self.traffic.look(), {})

    def test_this_kernel(self) -> None:
        """The real file is understood."""
        traffic = Traffic()
        traffic.look()
        self.assertIn("lo", traffic.look())
