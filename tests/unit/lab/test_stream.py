"""What both ends of a connection say about it."""

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.stream import Stream, judge


class JudgeTests(SynchronousTestCase):
    """The last lines of sender and receiver."""

    def test_good(self) -> None:
        """They agree: what arrived counts, which a receiver that skips the start has less of."""
        stream = judge("sent 4000000 -", "received 2000000 0.5 -")
        self.assertEqual(stream, Stream(2_000_000, 0.5, 4_000_000))
        self.assertEqual(stream.mbits, 32.0)
        self.assertEqual(judge("sent 9 ab", "received 9 1.0 ab"), Stream(9, 1.0, 9))
        self.assertEqual(Stream(0, 0.0, 0).mbits, 0.0)

    def test_bad(self) -> None:
        """They disagree, or one says nothing."""
        for sent, received in (
            ("sent 9 ab", "received 9 1.0 cd"),
            ("", "received 9 1.0 -"),
            ("sent 9 -", ""),
        ):
            with self.assertRaises(ValueError):
                judge(sent, received)
