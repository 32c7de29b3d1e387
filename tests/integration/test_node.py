"""Whole nodes: the real twistd, openvpn and babeld, in network namespaces joined by a cable."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from cryptography.x509 import load_pem_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from tests.directories import short_directory
from tests.integration.namespaces import Namespace, command
from tests.integration.processes import wait_for
from tests.unit.pki.making import authority, identity, request_pem, write_identity
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.revocations import directory_of
from vifibnet.pki.certificates import Identity, ca_of, prefix_of
from vifibnet.pki.requests import check_request, key_pem, make_key
from vifibnet.store.peers import PeerStore
from vifibnet.store.pem import Signed, key_hash
from vifibnet.store.registry import RegistryStore

ROOT = Path(__file__).resolve().parents[2]
TWISTD = str(Path(sys.executable).with_name("twistd"))
HELLO = "0.2"
REGISTRY_PORT = 8443


def until(condition: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Wait until it holds. Raises AssertionError with all logs when it does not in time."""

    def logs() -> str:
        return "".join(machine.logs() for machine in Machine.all if machine.directory.exists())

    wait_for(condition, what, seconds, logs)


class Machine:
    """A namespace, a node's files, and the processes that are started in it."""

    all: ClassVar[list[Machine]] = []

    def __init__(
        self, test: SynchronousTestCase, prefix: str | None = None, me: Identity | None = None
    ) -> None:
        me = me or identity(prefix=prefix or "5/16")
        self.network, self.prefix = me.network, me.prefix
        self.address = str(me.network.address(me.prefix))
        self.namespace = Namespace()
        test.addCleanup(self.namespace.destroy)
        self.directory = short_directory(test)
        test.addCleanup(shutil.rmtree, directory_of(self.directory), ignore_errors=True)
        self.all.append(self)
        write_identity(self.directory, me)
        PeerStore.create(self.directory / "peers.db", me.network).close()
        self.process: subprocess.Popen[str] | None = None
        test.addCleanup(self.give_up)

    def give_up(self) -> None:
        """End what a test has left. How a node ends by itself is a test of its own."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.end(signal.SIGKILL)

    def know(self, other: Machine, *endpoints: Endpoint, failed: bool = False) -> None:
        """Put a peer into the peer database."""
        store = PeerStore.open(self.directory / "peers.db", self.network)
        store.update([(other.prefix, endpoints)], time.time())
        if failed:
            store.failed(other.prefix, 0.0)
        store.close()

    def words(self, *options: str, twistd: tuple[str, ...] = ("-n", "--pidfile=")) -> list[str]:
        """The command line of the node, with relative paths."""
        files = "--ca ca.pem --cert cert.crt --key cert.key --state . --log ."
        words = [TWISTD, *twistd, "vifibnet-node", *files.split(), "--hello", HELLO]
        return ["ip", "netns", "exec", self.namespace.name, *words, "--connection-count", "2", *options]

    def popen(self, words: list[str]) -> subprocess.Popen[str]:
        """Start something here; what it says is in ``said``."""
        with (self.directory / "said").open("w") as said:
            return subprocess.Popen(
                words,
                cwd=self.directory,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    @property
    def said(self) -> str:
        """What the last process printed."""
        return (self.directory / "said").read_text()

    def start(self, *options: str) -> None:
        """Start the node."""
        self.process = self.popen(self.words(*options))

    def end(self, number: int = signal.SIGTERM) -> float:
        """End the node; how many seconds that took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(10)
        self.process = None
        return time.monotonic() - began

    def try_to_start(self, *options: str) -> tuple[int, str]:
        """Start a node that should refuse to: its status and what it said."""
        process = self.popen(self.words(*options))
        return process.wait(10), self.said

    def ping(self, address: str, *options: str) -> bool:
        """Whether an address answers once."""
        words = ["ip", "netns", "exec", self.namespace.name, "ping", "-6", "-c1", "-W1", *options, address]
        return subprocess.run(words, capture_output=True, check=False, timeout=10).returncode == 0

    def reaches(self, other: Machine, *options: str) -> None:
        """Wait until the other node answers."""
        until(lambda: self.ping(other.address, *options), f"{self.prefix} reaches {other.prefix}")

    def status(self) -> Any:
        """What the status socket says; None without one."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.directory / "status.sock"))
            except OSError:
                return None
            with client.makefile() as answer:
                return json.loads(answer.read())

    def tunnels(self) -> list[str]:
        """The peers to which a tunnel of ours is up."""
        status = self.status()
        return [each["peer"] for each in status["tunnels"] if each["up"]] if status else []

    def served(self) -> list[str]:
        """The peers that are connected to us."""
        status = self.status()
        return [each["peer"] for each in status["served"]] if status else []

    def linked(self, other: Machine) -> bool:
        """Whether there is a tunnel to the other. Each knows where that is, so either may have opened it."""
        return str(other.prefix) in (*self.tunnels(), *self.served())

    def picture(self) -> dict[str, str]:
        """Everything of the namespace that a node might change."""
        found = {words: self.namespace.ip(*words.split()) for words in ("link", "-6 address", "-6 rule")}
        routes = self.namespace.ip("-6", "route", "show", "table", "all")
        found["routes"] = "".join(sorted(line for line in routes.splitlines(True) if " proto ra" not in line))
        found["nft"] = command("ip", "netns", "exec", self.namespace.name, "nft", "list", "ruleset")
        with self.namespace.entered():
            sysctls = sorted(Path("/proc/sys/net/ipv6/conf").glob("*/forwarding"))
            sysctls += sorted(Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra"))
            found["sysctls"] = str([(str(path), path.read_text()) for path in sysctls])
        return found

    def files(self) -> set[str]:
        """The names in the state directory, without logs."""
        return {path.name for path in self.directory.iterdir() if path.suffix != ".log"} - {"said"}

    def logs(self) -> str:
        """The end of each log, for who wants to know why a test failed."""
        paths = [
            path for path in sorted(self.directory.iterdir()) if path.suffix == ".log" or path.name == "said"
        ]
        return "".join(f"--- {self.prefix} {path.name}\n{path.read_text()[-2000:]}\n" for path in paths)


def until_wired(*machines: Machine) -> None:
    """Wait until the cables between some machines are what they will be."""
    links = [machine.namespace for machine in machines]
    until(lambda: not any("NO-CARRIER" in link.ip("link") for link in links), "the cables")
    # Each interface but lo has a route for its link-local addresses.
    until(
        lambda: all(
            link.ip("-6", "route").count("fe80::/64") == len(link.ip("-o", "link").splitlines()) - 1
            for link in links
        ),
        "their addresses",
    )


class TwoMachines(SynchronousTestCase):
    """Two machines with a cable between them; nothing is started yet."""

    def setUp(self) -> None:
        """Lay the cable."""
        self.one, self.two = Machine(self, "1/16"), Machine(self, "2/16")
        self.one.namespace.connect(self.two.namespace, 0)
        until_wired(self.one, self.two)

    def meet(self, first: tuple[str, ...] = (), second: tuple[str, ...] = ()) -> None:
        """Start both; the second knows the first."""
        self.two.know(self.one, Endpoint("10.99.0.1", 1194, "udp"))
        self.one.start(*first)
        # A client that comes before its server gives it three seconds, and then another chance.
        until(lambda: self.one.namespace.processes("--mode"), "the first node's server")
        self.two.start(*second)
        self.two.reaches(self.one)
        self.one.reaches(self.two)


class HearsayTests(TwoMachines):
    """A node learns from those that it connects to where it comes from."""

    def test_told_by_the_server(self) -> None:
        """Without --ip, gateway and registry, the server's word is what is declared, and no one else's."""
        self.meet()
        until(lambda: self.two.status()["endpoints"], "the second node is told")
        self.assertEqual(self.two.status()["endpoints"], "10.99.0.2,1194,udp")
        self.assertEqual(self.one.status()["endpoints"], "")


class LifeTests(TwoMachines):
    """From the start to the end, and what is left."""

    def test_start_and_stop(self) -> None:
        """Nothing answers before; with the nodes all does, also packets of full size; nothing is left."""
        before = [self.one.picture(), self.two.picture()]
        self.assertFalse(self.two.ping(self.one.address))
        self.meet()
        self.assertTrue(self.two.ping(self.one.address, "-s", str(1400 - 48), "-M", "do"))
        self.assertFalse(self.two.ping(self.one.address, "-s", str(1400 - 47), "-M", "do"))
        # Any address of the subnet has a way there; those that nobody has are unreachable there, at once.
        self.assertFalse(self.two.ping(self.one.address.replace("::1", "::2")))
        status = self.two.status()
        [tunnel] = status["tunnels"]
        self.assertEqual(
            (tunnel["peer"], tunnel["remote"], tunnel["routes"]), ("1/16", "10.99.0.1,1194,udp", 1)
        )
        self.assertEqual([route["prefix"] for route in status["routes"]], ["2001:db8:42:1::/64"])
        [served] = self.one.status()["served"]
        self.assertEqual(
            (served["peer"], served["address"], served["server"]), ("2/16", "10.99.0.2", "vifs0")
        )
        self.assertEqual((self.two.directory / "status.sock").stat().st_mode & 0o777, 0o600)
        names = {path.name for path in self.two.directory.glob("*.log")}
        self.assertEqual(
            names,
            {
                "vifibnet-node.log",
                "vifibnet-babeld.log",
                "vifibnet-openvpn-vifc0.log",
                "vifibnet-openvpn-vifs0.log",
            },
        )
        self.assertLess(self.two.end(), 5)
        until(lambda: not self.one.served(), "the end is noticed")
        self.assertEqual(self.one.status()["routes"], [])
        self.assertLess(self.one.end(), 5)
        self.assertEqual([self.one.picture(), self.two.picture()], before)
        for machine in (self.one, self.two):
            self.assertEqual(machine.namespace.processes(), [])
            self.assertEqual(
                machine.files(),
                {"ca.pem", "cert.crt", "cert.key", "peers.db", "lock", "vifibnet.babeld.state"},
            )

    def test_killed(self) -> None:
        """After SIGKILL all carries on; the next start cleans up, and its end leaves nothing."""
        before = self.two.picture()
        self.meet()
        self.two.end(signal.SIGKILL)
        left = self.two.namespace.processes("openvpn")
        self.assertTrue(left)
        self.two.reaches(self.one)
        self.assertNotEqual(self.two.picture(), before)
        self.two.start()
        until(lambda: self.two.linked(self.one), "the new run's tunnel")
        self.assertFalse(set(left) & set(self.two.namespace.processes("openvpn")))
        self.two.reaches(self.one)
        self.assertEqual(len(self.two.namespace.processes("babeld")), 1)
        self.assertLess(self.two.end(), 5)
        self.assertEqual(self.two.picture(), before)
        self.assertEqual(self.two.namespace.processes(), [])

    def test_stopped_while_starting(self) -> None:
        """A SIGTERM at any moment of the start leaves nothing either."""
        before = self.two.picture()
        for name in ("status.sock", "kernel.json", "babeld.sock"):
            self.two.start()
            until((self.two.directory / name).exists, name)
            self.assertLess(self.two.end(), 5)
            self.assertEqual(self.two.picture(), before, name)
            self.assertEqual(self.two.namespace.processes(), [], name)

    def test_children_die(self) -> None:
        """A killed babeld, server or client is there again, and so is the way."""
        self.meet()
        for machine, program in ((self.two, "--nobind"), (self.two, "babeld"), (self.one, "--mode")):
            [process] = machine.namespace.processes(program)
            os.kill(process, signal.SIGKILL)
            until(
                lambda m=machine, p=program, old=process: [  # type: ignore[misc]
                    new for new in m.namespace.processes(p) if new != old
                ],
                f"another {program}",
            )
            self.two.reaches(self.one)

    def test_daemon(self) -> None:
        """As a daemon: the parent's status says that it works, and relative paths are what they were."""
        self.two.popen(self.two.words(twistd=("--pidfile=node.pid", "--logfile=twistd.log"))).wait(10)
        pid = int((self.two.directory / "node.pid").read_text())
        until(lambda: (self.two.status() or {}).get("pid") == pid, "the status socket")
        status, said = self.two.try_to_start()
        self.assertEqual(status, 1)
        self.assertRegex(
            said, rf"^vifibnet-node: --state [^;]*another node \(process {pid}\)[^;]*; [^;]*\.\n$"
        )
        os.kill(pid, signal.SIGTERM)
        until(lambda: not self.two.namespace.processes(), "its end", 5)


class WayTests(TwoMachines):
    """The other ways to reach somebody."""

    def test_tcp(self) -> None:
        """A TCP server beside a UDP one, and a client that comes by TCP."""
        self.two.know(self.one, Endpoint("10.99.0.1", 443, "tcp-client"))
        self.one.start("--pp", "1194", "udp", "--pp", "443", "tcp-server")
        self.two.start()
        self.two.reaches(self.one)
        self.assertEqual(self.one.status()["served"][0]["server"], "vifs1")
        self.assertEqual(self.two.status()["tunnels"][0]["remote"], "10.99.0.1,443,tcp-client")
        self.assertTrue(self.two.ping(self.one.address, "-s", str(1400 - 48), "-M", "do"))

    def test_ipv6(self) -> None:
        """An underlay of IPv6; of two endpoints the one that answers is used."""
        self.two.know(self.one, Endpoint("10.99.0.77", 1194, "udp"), Endpoint("fd99::1", 1194, "udp6"))
        self.one.start()
        self.two.start()
        self.two.reaches(self.one)
        self.assertEqual(self.two.status()["tunnels"][0]["remote"], "fd99::1,1194,udp6")

    def test_both_ways(self) -> None:
        """Two that know each other end with one tunnel, whoever was the first to be reached."""
        self.one.know(self.two, Endpoint("10.99.0.2", 1194, "udp"))
        self.meet()

        def alone(client: Machine, server: Machine) -> bool:
            """The client's tunnel is all that there is, or is about to be, and both see it."""
            opened = [len(machine.status()["tunnels"]) for machine in (client, server)]
            ends = client.tunnels(), server.served(), client.served()
            return opened == [1, 0] and ends == ([str(server.prefix)], [str(client.prefix)], [])

        until(lambda: alone(self.one, self.two) or alone(self.two, self.one), "one tunnel")
        self.assertTrue(self.two.ping(self.one.address))

    def test_lan(self) -> None:
        """Over -i a neighbour is reached without a tunnel; when the LAN is lost the tunnel comes."""
        self.meet(("-i", "eth0"), ("-i", "eth0"))
        until(lambda: self.two.status()["tunnels"] == [], "no tunnel to a LAN peer")
        routes = [route for route in self.two.status()["routes"] if route["installed"]]
        self.assertEqual([route["interface"] for route in routes], ["eth0"])
        self.two.reaches(self.one, "-s", str(1500 - 48), "-M", "do")
        # Babel alone is lost on the LAN: the underlay stays.
        with self.one.namespace.entered():
            subprocess.run(
                ["nft", "-f", "-"],
                input="table inet t {\nchain i { type filter hook input priority 0;\n"
                "iifname eth0 udp dport 6696 drop\n}\n}\n",
                text=True,
                check=True,
                timeout=5,
            )
        until(lambda: self.two.linked(self.one), "a tunnel instead of the LAN")
        self.two.reaches(self.one)


class RefreshTests(SynchronousTestCase):
    """Three machines, each with a cable to each."""

    def test_emptied_first(self) -> None:
        """The worst tunnel is replaced while packets go over it: they find another way before it ends."""
        one, two, three = (Machine(self, f"{number}/16") for number in (1, 2, 3))
        one.namespace.connect(two.namespace, 0)
        two.namespace.connect(three.namespace, 1)
        one.namespace.connect(three.namespace, 2)
        until_wired(one, two, three)
        one.know(three, Endpoint("10.99.2.2", 1194, "udp"))
        two.know(one, Endpoint("10.99.0.1", 1194, "udp"))
        two.know(three, Endpoint("10.99.1.2", 1194, "udp"))
        # Who could take a place makes the refresh drop a tunnel; one that failed is not tried first.
        nobody = Machine(self, "9/16")
        two.know(nobody, Endpoint("10.99.0.99", 1194, "udp"), failed=True)
        before = two.picture()
        # Slow enough for what happens between two hellos to be seen.
        # Nobody tells them of others, so that the tunnels are those that are meant.
        slow = ("--hello", "0.5", "--peer-port", "0")
        three.start(*slow)
        until(lambda: three.namespace.processes("--mode"), "the third node's server")
        one.start(*slow)
        one.reaches(three)
        two.start(*slow, "--tunnel-refresh", "6", "--refresh-rate", "0.5")
        until(lambda: len(two.tunnels()) == 2, "two tunnels")
        two.reaches(one)
        two.reaches(three)
        until(lambda: "dropping the tunnel" in two.logs(), "the refresh")
        [dropped] = set(re.findall(r"dropping the tunnel to (\d+/16)", two.logs()))

        def taps() -> list[str]:
            return [each["tap"] for each in two.status()["tunnels"] if each["peer"] == dropped and each["up"]]

        until(lambda: not taps(), "its end")
        self.assertNotIn("is closed with its routes", two.logs())
        two.reaches(one)
        two.reaches(three)
        two.end()
        self.assertEqual(two.picture(), before)


class RegistryCase(SynchronousTestCase):
    """Nodes that know nobody, and a registry."""

    cert_days: ClassVar[tuple[float, float]] = (365, 365)
    """How long the nodes' first certificates last."""
    options = ""
    """The registry's, beyond the usual ones."""

    def setUp(self) -> None:
        """Two enrolled nodes and the registry's files, on the first machine."""
        self.files = short_directory(self)
        ca = authority()
        (self.files / "ca.crt").write_bytes(ca.ca_pem)
        (self.files / "ca.key").write_bytes(key_pem(ca.key))
        store = RegistryStore.open(self.files / "registry.db", ca.network, time.time)
        self.machines = [Machine(self, me=self._enrol(store, number)) for number in range(2)]
        store.close()
        self.machines[0].namespace.connect(self.machines[1].namespace, 0)
        self.registry: subprocess.Popen[bytes] | None = None
        self.addCleanup(self.stop_registry)

    def _enrol(self, store: RegistryStore, number: int) -> Identity:
        """Make a node that the registry has in its database."""
        ca, key = authority(), make_key()
        request = check_request(request_pem(key))
        store.add_token(f"token {number}", "a@b.example")

        def sign(prefix: Prefix, serial: int) -> Signed:
            return Signed.of(ca.sign(request, prefix, serial, datetime.now(UTC), self.cert_days[number]))

        text = store.issue(f"token {number}", key_hash(key.public_key()), 16, sign)
        certificate = load_pem_x509_certificate(text.encode())
        return Identity(certificate, key, ca_of(ca.certificate, "test"), ca.network, prefix_of(certificate))

    def start_registry(self) -> None:
        """Start it."""
        words = f"{TWISTD} -n --pidfile= vifibnet-registry {REGISTRY_PORT} --db registry.db --ca ca.crt"
        words += f" --key ca.key --mailhost 127.0.0.1 --name 10.99.0.1 {self.options}"
        with (self.files / "registry.log").open("ab") as log:
            self.registry = subprocess.Popen(
                ["ip", "netns", "exec", self.machines[0].namespace.name, *words.split()],
                cwd=self.files,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def stop_registry(self) -> None:
        """Kill it."""
        if self.registry is not None:
            self.registry.kill()
            self.registry.wait(10)
            self.registry = None


class RegistryTests(RegistryCase):
    """They meet."""

    def test_registry(self) -> None:
        """Alone nobody is reached; the registry introduces them; they live and come again without it."""
        one, two = self.machines
        for machine in self.machines:
            machine.start("--server", "10.99.0.1", "--server-port", str(REGISTRY_PORT))
        until(lambda: one.status() and two.status(), "both nodes")
        self.assertEqual((two.status()["peers_known"], two.status()["registry"]["connected"]), (0, False))
        self.assertFalse(two.ping(one.address))
        self.start_registry()
        two.reaches(one)
        one.reaches(two)
        registry = two.status()["registry"]
        self.assertEqual((registry["connected"], registry["seen"]), (True, "10.99.0.2"))
        self.assertEqual(two.status()["endpoints"], "10.99.0.2,1194,udp")
        until(lambda: two.status()["peers_known"] == 1, "the peer is stored")
        self.stop_registry()
        until(lambda: not two.status()["registry"]["connected"], "the registry is gone")
        self.assertTrue(two.ping(one.address))
        two.end()
        self.assertFalse(two.ping(one.address))
        two.start("--server", "10.99.0.1", "--server-port", str(REGISTRY_PORT))
        two.reaches(one)


class RefusalTests(SynchronousTestCase):
    """What is wrong is said in one line before anything is started or written."""

    def test_refusals(self) -> None:
        """The machine's state, beyond what the options alone can tell."""
        machine = Machine(self, "1/16")
        other = identity(authority(days=30), prefix="1/16")
        (machine.directory / "other.pem").write_bytes(other.ca.pem)
        (machine.directory / "empty").mkdir()
        before = (machine.picture(), machine.files())
        with machine.namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("0.0.0.0", 1194))
            for options, words in (
                ("", "--pp 1194 udp"),
                ("--pp 1195 udp --state empty", "empty/peers.db"),
                ("--pp 1195 udp --state absent", "--state"),
                ("--pp 1195 udp --log absent", "--log"),
                ("--pp 1195 udp --ca other.pem", "other.pem"),
                ("--pp 1195 udp --key ca.pem", "--key"),
                ("--pp 1195 udp --dh absent", "--dh"),
                ("--pp 1195 udp -- --no-such-option", "no-such-option"),
            ):
                status, said = machine.try_to_start(*options.split())
                self.assertEqual(status, 1, options)
                self.assertRegex(said, r"^vifibnet-node: [^\n]*\.\n$")
                self.assertIn(words, said, options)
        self.assertEqual((machine.picture(), machine.files() - {"lock"}), before)
        self.assertEqual(machine.namespace.processes(), [])
