"""What real nodes do about children that fail, and about SIGHUP."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
from functools import partial
from typing import Any

from tests.integration.namespaces import command
from tests.integration.test_node import Machine, TwoMachines, until
from vifibnet.model.endpoints import Endpoint

LOUD = re.compile(r"#(warn|error|critical)\]")


class Base(TwoMachines):
    """Two machines, and how to trouble the second."""

    def hide(self, machine: Machine, *programs: str) -> None:
        """Make programs impossible to run, for a node alone: it has a mount namespace of its own."""
        for program in programs:
            self.mount(machine, "mount", "--bind", "/dev/null", str(shutil.which(program)))

    def show(self, machine: Machine, *programs: str) -> None:
        """Let them be run again."""
        for program in programs:
            self.mount(machine, "umount", str(shutil.which(program)))

    def mount(self, machine: Machine, *words: str) -> None:
        """Run a command among a node's mounts."""
        assert machine.process is not None
        command("nsenter", "--mount", f"--target={machine.process.pid}", *words)

    def child(self, machine: Machine, name: str) -> Any:
        """What the status says of a program."""
        [child] = [each for each in machine.status()["children"] if each["name"].startswith(name)]
        return child

    def log(self, machine: Machine) -> str:
        """The node's own log."""
        return (machine.directory / "vifibnet-node.log").read_text()


class VanishedTests(Base):
    """A node whose children cannot be started."""

    def test_programs_vanish(self) -> None:
        """It stays, says so once of each, and is whole again when they can be run again."""
        self.meet()
        assert self.two.process is not None
        self.hide(self.two, "openvpn", "babeld", "ip")
        for program in ("openvpn", "babeld"):
            for process in self.two.namespace.processes(program):
                os.kill(process, signal.SIGKILL)
        until(lambda: self.child(self.two, "babeld")["restarts"] >= 4, "four failures")
        until(lambda: self.child(self.two, "openvpn server")["restarts"] >= 4, "four failures")
        self.assertIsNone(self.two.process.poll())
        self.assertEqual(self.child(self.two, "openvpn server")["state"], "backing off")
        loud = [line for line in self.log(self.two).splitlines() if LOUD.search(line)]
        for name in ("babeld", "openvpn server"):
            said = [line for line in loud if f"] {name}" in line]
            # That it was killed, and why it cannot be started.
            self.assertEqual(len(said), 2, said)
        self.assertLess(len(loud), 8, loud)
        self.show(self.two, "openvpn", "babeld", "ip")
        until(lambda: self.child(self.two, "babeld")["state"] == "running", "babeld again")
        until(lambda: self.child(self.two, "openvpn server")["state"] == "running", "the server again")
        self.two.reaches(self.one)
        self.assertLess(self.two.end(), 5)

    def test_babeld_is_back(self) -> None:
        """Within a second, whenever it is killed."""
        self.meet()

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                try:
                    client.connect(str(self.two.directory / "babeld.sock"))
                    return client.recv(100).startswith(b"BABEL")
                except OSError:
                    return False

        def another(old: int) -> bool:
            return answers() and bool(set(self.two.namespace.processes("babeld")) - {old})

        for number in range(3):
            until(answers, "babeld answers")
            [process] = self.two.namespace.processes("babeld")
            os.kill(process, signal.SIGKILL)
            began = time.monotonic()
            until(partial(another, process), "babeld answers again")
            self.assertLess(time.monotonic() - began, 1.0)
            self.assertEqual(self.child(self.two, "babeld")["restarts"], number + 1)
        self.two.reaches(self.one)


class HungTests(Base):
    """A node whose children hang."""

    def test_stop(self) -> None:
        """It ends as soon as ever, and leaves none of them."""
        self.meet()
        children = [pid for name in ("openvpn", "babeld") for pid in self.two.namespace.processes(name)]
        self.assertGreaterEqual(len(children), 3)
        for process in children:
            os.kill(process, signal.SIGSTOP)
        self.assertLess(self.two.end(), 5)
        until(lambda: not self.two.namespace.processes(), "nothing left", 1.0)


class HangupTests(Base):
    """SIGHUP."""

    def hangup(self, expected: str) -> None:
        """Have the second read its options again; wait for what its log says then."""
        before = self.log(self.two).count("SIGHUP: ")
        assert self.two.process is not None
        self.two.process.send_signal(signal.SIGHUP)
        until(lambda: self.log(self.two).count("SIGHUP: ") > before, "the options are read again")
        [*_, said] = [line for line in self.log(self.two).splitlines() if "SIGHUP: " in line]
        self.assertIn(expected, said)

    def test_hangup(self) -> None:
        """Only what has changed is started anew, a bad file changes nothing, and TERM stops it as ever."""
        options = self.two.directory / "options"
        options.write_text("tunnel-refresh 100\n")
        self.meet(second=("@options",))
        babeld, server = (self.child(self.two, name)["pid"] for name in ("babeld", "openvpn server"))
        options.write_text("tunnel-refresh 90\n")
        self.hangup("changed: --tunnel-refresh")
        self.assertEqual(self.two.status()["parameters"]["values"]["tunnel-refresh"], "90")
        self.assertEqual(self.child(self.two, "babeld")["pid"], babeld)
        options.write_text("tunnel-refresh 90\nwireless\nmain-interface dummy9\n")
        self.hangup("--main-interface stays as before")
        until(lambda: self.child(self.two, "babeld")["pid"] not in (babeld, None), "another babeld")
        self.assertEqual(self.child(self.two, "openvpn server")["pid"], server)
        self.assertEqual(self.child(self.two, "babeld")["restarts"], 0)
        options.write_text("nonsense\n")
        self.hangup("--nonsense: unknown option")
        options.write_text("tunnel-refresh 90\nwireless\n-- --verb 4\n")
        self.hangup("changed: -- ARGUMENTS")
        until(lambda: self.child(self.two, "openvpn server")["pid"] not in (server, None), "another server")
        until(
            lambda: len(self.two.namespace.processes("--verb\x004\x00")) >= 2,
            "a client with the new arguments",
        )
        self.two.reaches(self.one)
        self.assertLess(self.two.end(), 5)


class KilledTests(Base):
    """A node that was killed."""

    def test_back(self) -> None:
        """What it left does not keep the next start waiting."""
        self.two.know(self.one, Endpoint("10.99.0.1", 1194, "udp"))
        self.meet()
        self.two.end(signal.SIGKILL)
        began = time.monotonic()
        self.two.start()
        self.two.reaches(self.one)
        self.assertLess(time.monotonic() - began, 5)
