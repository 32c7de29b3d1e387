"""What Linux says of a process's costs."""

import os

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.usage import Usage, cpu_seconds, memory, usage

STAT = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 {} {} 7 8 20 0 2 0 100 1000 200"
ROLLUP = """5616a3a00000-7ffd1b3fe000 ---p 00000000 00:00 0                          [rollup]
Rss:               70240 kB
Pss:                9000 kB
Pss_Dirty:          8000 kB
"""


class UsageTests(SynchronousTestCase):
    """Processor time and memory."""

    def test_cpu(self) -> None:
        """User and system time, in seconds; that of children that have ended is theirs."""
        ticks = os.sysconf("SC_CLK_TCK")
        self.assertEqual(cpu_seconds(STAT.format(3 * ticks, ticks // 2)), 3.5)

    def test_memory(self) -> None:
        """In bytes; nothing where nothing is said."""
        self.assertEqual(memory(ROLLUP, "Rss"), 70240 * 1024)
        self.assertEqual(memory(ROLLUP, "Pss"), 9000 * 1024)
        self.assertEqual(memory("", "Rss"), 0)

    def test_sum(self) -> None:
        """Of no process nothing; ours is here."""
        self.assertEqual(usage([]), Usage())
        ours = usage([os.getpid()])
        self.assertGreaterEqual(ours.rss, ours.pss)
        self.assertGreater(ours.pss, 1 << 20)
        self.assertEqual(Usage(1, 2, 3) + Usage(4, 5, 6), Usage(5, 7, 9))
