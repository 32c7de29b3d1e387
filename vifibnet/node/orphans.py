"""The children of a node that was killed.

They are not taken over by the next one. openvpn could be told to listen for its node instead of calling it,
and would carry on without. But nobody would give signs of life over its tunnels meanwhile, dismiss who is
revoked, or replace what holds an old certificate; the new node would have to believe what runs, its taps,
routes and arguments, as they are. What it gains is little: a tunnel stands 20 ms after its openvpn starts,
and babel has moved all traffic off a dead node before Python has even started again. So everything ends with
its node, and the next start sees to it that it need not wait for that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from vifibnet.node.taps import is_ours


def hurry(state: Path, proc: Path = Path("/proc")) -> list[int]:
    """Have them end now, and return which they were.

    The openvpns are ending, but their servers wait two seconds, in which their farewell may be repeated and
    they hold their ports; they do not after another SIGTERM. babeld knows of nothing yet.
    """
    found = []
    for pid in _processes(proc):
        try:
            process = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if _is_child(state, (proc / str(pid) / "cmdline").read_bytes()):
                signal.pidfd_send_signal(process, signal.SIGTERM)
                found.append(pid)
        except OSError:
            continue
        finally:
            os.close(process)
    return found


def _processes(proc: Path) -> Iterator[int]:
    return (int(path.name) for path in proc.iterdir() if path.name.isdecimal())


def _is_child(state: Path, command: bytes) -> bool:
    """Whether this command line is of a child that the node of this state directory has started."""
    program, *arguments = os.fsdecode(command).split("\0")
    match os.path.basename(program):
        case "openvpn":
            paths = [Path(word) for word in arguments if word.endswith(".sock")]
            return any(path.parent == state and is_ours(path.stem) for path in paths)
        case "babeld":
            return str(state / "babeld.pid") in arguments
    return False
