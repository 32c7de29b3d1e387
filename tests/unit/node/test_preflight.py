"""What is looked at before anything is started."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.directories import short_directory
from tests.ports import free_port
from tests.unit.node.fakes import NETWORK, config
from vifibnet.errors import BadInput
from vifibnet.node import lock, orphans, preflight
from vifibnet.store.peers import PeerStore


class CheckTests(SynchronousTestCase):
    """Each check for itself: silent when all is well, one sentence when not."""

    def setUp(self) -> None:
        """A directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def refused(self, check: object, *arguments: object) -> str:
        """The sentence."""
        error: BadInput = self.assertRaises(BadInput, check, *arguments)
        return str(error)

    def test_programs(self) -> None:
        """A missing one is named with its package; /usr/sbin need not be on PATH."""
        path = os.environ["PATH"]
        self.addCleanup(os.environ.__setitem__, "PATH", path)
        sentence = self.refused(preflight.check_programs, {"no-such-program": "no-such-package"})
        self.assertIn("no-such-program", sentence)
        self.assertIn("apt-get install no-such-package", sentence)
        os.environ["PATH"] = "/usr/bin"
        preflight.check_programs(preflight.PROGRAMS)

    def test_privilege(self) -> None:
        """Root without the right to change the network is not enough, nor is a kernel without tun."""
        status = self.directory / "status"
        status.write_text("Name:\tx\nCapEff:\t000001ffffffffff\n")
        preflight.check_privilege(status)
        sentence = self.refused(preflight.check_privilege, status, self.directory / "tun")
        self.assertIn("modprobe tun", sentence)
        status.write_text("Name:\tx\nCapEff:\t000001ffffffefff\n")
        self.assertIn("CAP_NET_ADMIN", self.refused(preflight.check_privilege, status))
        self.patch(os, "geteuid", lambda: 1000)
        self.assertIn("run it as root", self.refused(preflight.check_privilege))

    def test_directories(self) -> None:
        """Absent, no directory, not to be written to."""
        preflight.check_directory("--log", self.directory)
        self.assertIn(
            "does not exist", self.refused(preflight.check_directory, "--log", self.directory / "a")
        )
        (self.directory / "b").touch()
        sentence = self.refused(preflight.check_directory, "--log", self.directory / "b")
        self.assertIn(f"--log {self.directory}/b: is no directory", sentence)
        # Where nobody may make a file, not even root.
        self.assertIn(
            "cannot be written", self.refused(preflight.check_directory, "--state", Path("/proc/self"))
        )

    def test_dh(self) -> None:
        """A file that is named is there."""
        preflight.check_dh(None)
        self.assertIn("--dh", self.refused(preflight.check_dh, self.directory / "dh"))

    def test_ports(self) -> None:
        """A port is in use when anybody has it, over IPv4 or IPv6, by UDP or TCP as it is wanted."""
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind, proto, other in (
                (socket.SOCK_DGRAM, "udp", "tcp-server"),
                (socket.SOCK_STREAM, "tcp-server", "udp"),
            ):
                with socket.socket(family, kind) as taken:
                    port = free_port()
                    taken.bind((address, port))
                    if kind == socket.SOCK_STREAM:
                        taken.listen()
                    sentence = self.refused(preflight.check_ports, [(port, proto)])
                    self.assertIn(f"--pp {port} {proto}: this port is in use", sentence)
                    preflight.check_ports([(port, other)])
                preflight.check_ports([(port, proto)])

    def test_babel_port(self) -> None:
        """Another babeld is in the way."""
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
            taken.bind(("::1", 0))
            self.patch(preflight, "PORT", taken.getsockname()[1])
            self.assertIn("babeld", self.refused(preflight.check_babel_port))
        preflight.check_babel_port()


class OrderTests(SynchronousTestCase):
    """All checks together."""

    def setUp(self) -> None:
        """A machine on which everything else is well."""
        self.directory = short_directory(self)
        # Another process may be running another of these tests.
        self.patch(lock, "NAME", f"\0vifibnet-test-{os.getpid()}")
        self.patch(preflight, "check_privilege", lambda: None)
        self.patch(preflight, "can_listen", lambda port, kind: True)

    def sentence(self, **options: object) -> str:
        """What is said."""
        error = self.assertRaises(
            BadInput, preflight.check, config(self.directory, **options), datetime.now(UTC)
        )
        return str(error)

    def test_names_what_is_missing(self) -> None:
        """The identity's files, by their options, come before the peer database."""
        self.assertIn("--ca", self.sentence())

    def identify(self) -> None:
        """Skip the identity, which has tests of its own."""

        class Known:
            network = NETWORK

            @classmethod
            def load(cls, *arguments: object, **how: object) -> Known:
                return cls()

        self.patch(preflight, "Identity", Known)

    def test_second_node(self) -> None:
        """Another node with the same state directory is named as that, not by the ports that it has."""
        self.identify()
        self.patch(preflight, "can_listen", lambda port, kind: False)
        self.addCleanup(lock.Lock(self.directory).release)
        self.assertIn("another node", self.sentence())

    def test_left_running(self) -> None:
        """What a killed node has left may have the ports, until it is ended; then nobody may. Nothing is held
        after the check, also when something is wrong."""
        self.identify()
        PeerStore.create(self.directory / "peers.db", NETWORK).close()
        self.patch(preflight, "can_listen", lambda port, kind: False)
        self.assertIn("in use", self.sentence())
        lock.Lock(self.directory).release()
        self.patch(orphans, "are_there", lambda state: True)
        given = config(self.directory)
        preflight.check(given)
        for ended in ([], [7]):
            self.patch(orphans, "end", lambda state, ended=ended: ended)
            if ended:
                self.assertIn("in use", str(self.assertRaises(BadInput, preflight.vacate, given)))
            else:
                preflight.vacate(given)

    def test_peers(self) -> None:
        """A missing database, a foreign one, and then everything is well and nothing is held."""
        self.identify()
        self.assertIn("peers.db", self.sentence())
        (self.directory / "peers.db").write_bytes(b"x" * 5000)
        self.assertIn("peers.db", self.sentence())
        (self.directory / "peers.db").unlink()
        PeerStore.create(self.directory / "peers.db", NETWORK).close()
        identity = preflight.check(config(self.directory))
        self.assertEqual(identity.network, NETWORK)
        lock.Lock(self.directory).release()

    def test_openvpn_arguments(self) -> None:
        """openvpn itself is asked about them."""
        self.identify()
        PeerStore.create(self.directory / "peers.db", NETWORK).close()
        self.assertIn("no-such-option", self.sentence(openvpn_args=("--no-such-option",)))
