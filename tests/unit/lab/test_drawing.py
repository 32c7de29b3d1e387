"""The drawing of the tunnels."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.drawing import draw

names = st.integers(0, 20).map(lambda count: [f"h{n}" for n in range(count)])


class DrawingTests(SynchronousTestCase):
    """What is in the picture, rather than where."""

    def test_two_hosts(self) -> None:
        """Two names with a line between them, in ASCII."""
        picture = draw(["h0", "h1"], {frozenset(("h0", "h1"))}, width=20, braille=False)
        self.assertEqual([line.strip() for line in picture], ["h0", *["."] * (len(picture) - 2), "h1"])

    def test_no_tunnel_no_line(self) -> None:
        """Hosts without tunnels stand alone."""
        self.assertEqual("".join(draw(["h0", "h1", "h2"], set())).split(), ["h0", "h2", "h1"])

    def test_braille(self) -> None:
        """By default lines are made of braille patterns."""
        letters = set("".join(draw(["h0", "h1"], {frozenset(("h0", "h1"))}))) - set(" h01")
        self.assertTrue(letters)
        self.assertTrue(all("⠀" <= letter <= "⣿" for letter in letters), letters)

    def test_cut(self) -> None:
        """What is cut looks different, tunnel or not."""
        for edges in (set(), {frozenset(("h0", "h1"))}):
            picture = "".join(draw(["h0", "h1"], edges, cut={frozenset(("h0", "h1"))}, braille=False))
            self.assertIn("x", picture)
            self.assertNotIn(".", picture)

    def test_dead(self) -> None:
        """A dead host is marked."""
        picture = "".join(draw(["h0", "h1"], set(), dead={"h1"}))
        self.assertIn("h1†", picture)
        self.assertNotIn("h0†", picture)

    def test_colour_changes_nothing_else(self) -> None:
        """Without its escape sequences, the coloured picture is the plain one."""
        import re

        edges = {frozenset(("h0", "h1")), frozenset(("h1", "h2"))}
        plain, coloured = (draw(["h0", "h1", "h2"], edges, colour=colour) for colour in (False, True))
        stripped = [re.sub(r"\033\[[0-9;]*m", "", line) for line in coloured]
        self.assertEqual(stripped, plain)
        self.assertNotEqual(coloured, plain)

    @given(names, st.integers(20, 100), st.booleans(), st.data())
    def test_fits(self, hosts: list[str], width: int, braille: bool, data: st.DataObject) -> None:
        """Every host is there, nothing is wider than asked for, strangers are not drawn."""
        some = st.sampled_from([*hosts, "x"])
        edges = data.draw(st.sets(st.frozensets(some, min_size=1, max_size=2), max_size=30))
        picture = draw(hosts, edges, width=width, braille=braille)
        self.assertTrue(all(len(line) <= width for line in picture))
        self.assertNotIn("x", "".join(picture))
