"""Who can be lost without losing others."""

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.graph import connected, spare_edges, spare_names


def edges(text: str) -> set[frozenset[str]]:
    """``ab bc`` are two edges."""
    return {frozenset(pair) for pair in text.split()}


class GraphTests(SynchronousTestCase):
    """A triangle with a tail: a, b, c joined all around, d hanging on c."""

    shape = edges("ab bc ca cd")

    def test_connected(self) -> None:
        """All hang together, until one does not; edges to strangers join nobody."""
        self.assertTrue(connected("abcd", self.shape))
        self.assertTrue(connected("a", []))
        self.assertTrue(connected("", []))
        self.assertFalse(connected("abcde", self.shape))
        self.assertFalse(connected("abd", self.shape))
        self.assertFalse(connected("ab", edges("ax xb")))

    def test_long_way_round(self) -> None:
        """A chain is followed to its end."""
        names = "abcdefghij"
        chain = {frozenset(pair) for pair in zip(names, names[1:], strict=False)}
        self.assertTrue(connected(names, chain))
        self.assertEqual(spare_edges(names, chain), [])

    def test_spare_edges(self) -> None:
        """The triangle can lose a side, the tail is needed."""
        self.assertEqual(spare_edges("abcd", self.shape), [("a", "b"), ("a", "c"), ("b", "c")])

    def test_spare_names(self) -> None:
        """Everybody but c can go; those with more edges come first."""
        self.assertEqual(spare_names("abcd", self.shape), ["a", "b", "d"])
