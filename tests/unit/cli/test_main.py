"""How a command ends when nobody reads any more what it prints."""

from __future__ import annotations

import subprocess
import sys
from unittest import TestCase

PROGRAM = """
from vifibnet.cli.main import finish

async def work(reactor):
    for _ in range({lines}):
        print("a line")
    return 0

finish("vifibnet test", work)
"""


class PipeTests(TestCase):
    """``vifibnet nodes | head -1``."""

    def test_closed(self) -> None:
        """Status 1 and not a word, whether it was in the middle of printing or had printed all."""
        for lines in (10, 100_000):
            program = [sys.executable, "-c", PROGRAM.format(lines=lines)]
            with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stdout.close()
                self.assertEqual((process.wait(20), process.stderr.read()), (1, b""))
