"""All integration tests, with trial. What fails is run once more, alone, and both outcomes are shown.

These tests count packets and wait for real daemons on whatever machine there is. Where others use its
processors meanwhile, a ping may be late for reasons that are not ours; that does not happen twice. Many
failures are no accident.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence

FEW = 3
"""So many failures may be accidents."""

_NAME = re.compile(r"^tests\.integration\.\w+\.\w+\.test_\w+$")


def named(lines: Iterable[str]) -> list[str]:
    """The tests that trial's summary names: the failed ones, each once."""
    return list(dict.fromkeys(line.strip() for line in lines if _NAME.match(line.strip())))


def run(names: Sequence[str]) -> tuple[int, list[str]]:
    """Run tests, showing what trial says; its exit status, and what failed."""
    trial = subprocess.Popen(
        [sys.executable, "-m", "twisted.trial", *names], stdout=subprocess.PIPE, text=True
    )
    assert trial.stdout is not None
    lines = []
    for line in trial.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return trial.wait(), named(lines)


def main() -> int:
    """The exit status of all, or of the second run of those that failed."""
    status, failed = run(["tests.integration"])
    if status and 0 < len(failed) <= FEW:
        print("\nOnce more, alone:", *failed, flush=True)
        status, _ = run(failed)
    return status


if __name__ == "__main__":
    sys.exit(main())
