"""What a ping says about an outage."""

import math

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.children import Child
from vifibnet.lab.probe import Outage, Watch, full_size, outage


class OutageTests(SynchronousTestCase):
    """Arrival times of answers, 50 ms apart when nothing is wrong."""

    def test_none(self) -> None:
        """Answers without a gap: no outage."""
        result = outage({n: 100 + n * 0.05 for n in range(1, 101)}, 0.05)
        self.assertAlmostEqual(result.seconds, 0.0)
        self.assertEqual((result.sent, result.lost), (100, 0))

    def test_gap(self) -> None:
        """Twenty lost pings are an outage of a second, whichever gaps there are beside."""
        arrivals = {n: 100 + n * 0.05 for n in range(1, 101) if not 30 < n <= 50 and n != 70}
        result = outage(arrivals, 0.05)
        self.assertAlmostEqual(result.seconds, 1.0)
        self.assertEqual((result.sent, result.lost), (100, 21))

    def test_late(self) -> None:
        """What arrives late was not lost, but nothing came meanwhile."""
        arrivals = {n: 100 + n * 0.05 for n in range(1, 20)} | dict.fromkeys(range(20, 61), 103.0)
        result = outage(arrivals, 0.05)
        self.assertAlmostEqual(result.seconds, 2.0)
        self.assertEqual(result.lost, 0)

    def test_silence(self) -> None:
        """Without any answer the outage has no end."""
        self.assertEqual(outage({}, 0.05), Outage(math.inf, 0, 0))


class WatchTests(SynchronousTestCase):
    """The lines of ``ping -D``."""

    def test_lines(self) -> None:
        """Answers count, once each; everything else that ping says does not."""
        watch = Watch(Child(Clock(), ["ping"]), 0.05)
        for line in (
            "PING 2001:db8:42:5::1(2001:db8:42:5::1) 56 data bytes",
            "[1795347642.100000] 64 bytes from 2001:db8:42:5::1: icmp_seq=1 ttl=63 time=0.519 ms",
            "[1795347642.150000] From 2001:db8:42:7::1 icmp_seq=2 Destination unreachable: No route",
            "[1795347642.200000] 64 bytes from 2001:db8:42:5::1: icmp_seq=3 ttl=63 time=1.5 ms",
            "[1795347642.250000] 64 bytes from 2001:db8:42:5::1: icmp_seq=3 ttl=63 time=51.5 ms (DUP!)",
            "ping: sendmsg: Network is unreachable",
            "",
        ):
            watch._line(line)
        self.assertEqual(watch.arrivals, {1: 1795347642.1, 3: 1795347642.2})
        self.assertEqual(watch.last, 1795347642.2)

    def test_full_size(self) -> None:
        """An IPv6 header (RFC 8200) has 40 bytes, that of an echo request (RFC 4443) 8."""
        self.assertEqual(full_size(1400), 1352)
