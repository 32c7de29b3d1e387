"""What the node changes in a machine's network, and that nothing of it stays."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import struct
import subprocess
import sys
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.integration.namespaces import Namespace, command, eventually
from vifibnet.errors import BadInput, CommandFailed
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.ways import Place, Way
from vifibnet.node import orphans
from vifibnet.node.babeld import Babeld, BabeldSettings
from vifibnet.node.kernel import Kernel
from vifibnet.node.lock import Lock

NETWORK = IPv6Network("2001:db8:42::/48")
SUBNET = IPv6Network("2001:db8:42:5::/64")
ADDRESS = IPv6Address("2001:db8:42:5::1")
TAPS = ("vifc0", "vifc1", "vifs0")


class KernelTestCase(TestCase):
    """Every test is inside a namespace of its own, which has a neighbour on eth0."""

    timeout = 30

    def setUp(self) -> None:
        self.namespace, other = Namespace(), Namespace()
        self.addCleanup(other.destroy)
        self.addCleanup(self.namespace.destroy)
        self.namespace.connect(other, 0)
        inside = self.namespace.entered()
        inside.__enter__()
        self.addCleanup(inside.__exit__, None, None, None)
        self.state = short_directory(self, "vifibnet test ")
        self.kernel = Kernel(reactor, self.state)

    def picture(self) -> dict[str, object]:
        """All that could have changed."""
        conf = Path("/proc/sys/net/ipv6/conf")
        sysctls = {str(path): _read(path) for path in sorted(conf.rglob("*")) if path.is_file()}
        return {
            "links": command("ip", "link"),
            "addresses": command("ip", "-6", "addr"),
            "routes": sorted(command("ip", "-6", "route", "show", "table", "all").splitlines()),
            "sysctls": sysctls,
            "files": sorted(path.name for path in self.state.iterdir()),
        }

    async def change(self, interface: str = "lo") -> None:
        """Everything that a node does."""
        await self.kernel.add_taps(TAPS, 1400)
        await self.kernel.add_subnet(interface, ADDRESS, SUBNET, NETWORK)
        await self.kernel.flush_routes()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        # Such as stable_secret, which nobody may read before it is set.
        return str(error)


class KernelTests(KernelTestCase):
    """The changes themselves, and taking them back."""

    async def test_changes(self) -> None:
        """Taps, address, unreachable rest and forwarding are there."""
        with self.assertRaises(AssertionError):
            command("ping", "-6", "-c1", "-W1", str(ADDRESS))
        await self.change()
        links = command("ip", "link")
        for tap in TAPS:
            self.assertIn(f"{tap}: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1400", links)
            self.assertEqual(Path(f"/proc/sys/net/ipv6/conf/{tap}/accept_ra").read_text(), "0\n")
            asks = Path(f"/proc/sys/net/ipv6/neigh/{tap}")
            self.assertEqual((asks / "retrans_time_ms").read_text(), "100\n")
            self.assertEqual((asks / "mcast_solicit").read_text(), "30\n")
        self.assertEqual(Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text(), "1\n")
        command("ping", "-6", "-c1", "-W1", str(ADDRESS))
        for nobody in (SUBNET[2], NETWORK[-1]):
            ping = subprocess.run(
                ["ping", "-6", "-c1", "-W1", str(nobody)], capture_output=True, text=True, check=False
            )
            self.assertIn("No route to host", ping.stdout + ping.stderr)

    async def test_link_local(self) -> None:
        """A tap has its link-local address as soon as somebody opens it, not a second later."""
        await self.kernel.add_taps(["vifc0"], 1400)
        await Kernel(reactor, self.state, IPv6Address("fe80::5")).add_taps(["vifc1"], 1400)
        self.assertIn("inet6 fe80::5/64", command("ip", "-6", "addr", "show", "dev", "vifc1"))
        self.assertNotIn("fe80", command("ip", "-6", "addr", "show", "dev", "vifc0"))
        holder = subprocess.Popen([sys.executable, "-c", _OPEN_TAP], stdout=subprocess.PIPE)
        self.addCleanup(holder.communicate)
        self.addCleanup(holder.kill)
        assert holder.stdout is not None
        holder.stdout.readline()
        addresses = command("ip", "-6", "addr", "show", "dev", "vifc0")
        self.assertIn("fe80", addresses)
        self.assertNotIn("tentative", addresses)

    async def test_hardware_address(self) -> None:
        """All taps of a node have the same, which is that of no other node, also when they are made anew."""
        found = []
        for number in (5, 5, 6):
            kernel = Kernel(reactor, self.state, IPv6Address(f"fe80::{number}"))
            await kernel.add_taps(TAPS, 1400)
            links = json.loads(command("ip", "-json", "link"))
            found.append({link["address"] for link in links if link["ifname"] in TAPS})
            await kernel.clean()
        first, again, other = found
        self.assertEqual([len(each) for each in found], [1, 1, 1])
        self.assertEqual((first, first & other), (again, set()))
        # Locally administered, and of one interface.
        self.assertEqual({int(each[:2], 16) & 0b11 for each in first | other}, {0b10})

    async def test_restore(self) -> None:
        """Afterwards everything is as it was before."""
        before = self.picture()
        await self.change()
        changed = self.picture()
        for aspect in before:
            self.assertNotEqual(changed[aspect], before[aspect])
        await self.kernel.restore()
        self.assertEqual(self.picture(), before)

    async def test_restore_mixed(self) -> None:
        """Interfaces that were down, forwarded or heeded no router before do so again."""
        command("ip", "link", "set", "lo", "down")
        command("ip", "link", "add", "bridge7", "type", "bridge")
        conf = Path("/proc/sys/net/ipv6/conf")
        (conf / "bridge7/forwarding").write_text("1")
        (conf / "default/accept_ra").write_text("0")
        (conf / "lo/disable_ipv6").write_text("1")
        before = self.picture()
        await self.change()
        self.assertEqual((conf / "eth0/accept_ra").read_text(), "2\n")
        self.assertEqual((conf / "bridge7/accept_ra").read_text(), "1\n")
        await self.kernel.restore()
        self.assertEqual(self.picture(), before)

    async def test_router_already(self) -> None:
        """On a machine that is a router nothing but ours changes."""
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        before = self.picture()
        await self.change()
        self.assertEqual(Path("/proc/sys/net/ipv6/conf/eth0/accept_ra").read_text(), "1\n")
        await self.kernel.restore()
        self.assertEqual(self.picture(), before)

    async def test_main_interface(self) -> None:
        """An interface that is not there is made, one that is stays; an address that was there, too."""
        before = self.picture()
        await self.change("vifibnet0")
        self.assertIn(str(ADDRESS), command("ip", "addr", "show", "dev", "vifibnet0"))
        command("ping", "-6", "-c1", "-W1", str(ADDRESS))
        await self.kernel.restore()
        self.assertEqual(self.picture(), before)
        command("ip", "addr", "add", f"{ADDRESS}/128", "dev", "eth0", "nodad")
        before = self.picture()
        await self.change("eth0")
        await self.kernel.restore()
        self.assertEqual(self.picture(), before)

    async def test_clean(self) -> None:
        """What a node that was killed left is removed by the next one, however often."""
        before = self.picture()
        await self.change("vifibnet0")
        await Kernel(reactor, self.state).clean()
        self.assertEqual(self.picture(), before)
        await self.kernel.clean()
        self.assertEqual(self.picture(), before)

    async def test_stop_before_clean(self) -> None:
        """A node that is stopped before it has begun takes back what a killed one has left."""
        before = self.picture()
        await self.change("vifibnet0")
        await Kernel(reactor, self.state).restore()
        self.assertEqual(self.picture(), before)

    async def test_clean_without_record(self) -> None:
        """Taps of ours go even when the record is lost; what is no tap stays."""
        await self.kernel.add_taps(TAPS, 1400)
        command("ip", "link", "add", "vifc7", "type", "bridge")
        (self.state / "kernel.json").write_text("{")
        await Kernel(reactor, self.state).clean()
        links = command("ip", "link")
        self.assertNotIn("vifc0", links)
        self.assertIn("vifc7", links)

    async def test_record_of_elsewhere(self) -> None:
        """A record that was made in another namespace says nothing about this one."""
        other = Namespace()
        self.addCleanup(other.destroy)
        with other.entered():
            await self.kernel.add_subnet("lo", ADDRESS, SUBNET, NETWORK)
        self.assertIn(str(ADDRESS), other.ip("addr"))
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        await Kernel(reactor, self.state).clean()
        self.assertEqual(Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text(), "1\n")

    async def test_refusal(self) -> None:
        """What the kernel refuses is an error that says what, and can be taken back nevertheless."""
        before = self.picture()
        command("ip", "link", "add", "vifc1", "type", "bridge")
        with self.assertRaises(CommandFailed) as caught:
            await self.change()
        self.assertIn("Device or resource busy", str(caught.exception))
        command("ip", "link", "del", "vifc1")
        await self.kernel.restore()
        self.assertEqual(self.picture(), before)

    async def test_half_made(self) -> None:
        """Taps that could not all be made can be made later; what is in the way is somebody else's."""
        command("ip", "link", "add", "vifc1", "type", "bridge")
        before = command("ip", "-o", "link", "show", "type", "tun")
        with self.assertRaises(CommandFailed):
            await self.kernel.add_taps(TAPS, 1400)
        self.assertEqual(command("ip", "-o", "link", "show", "type", "tun"), before)
        command("ip", "link", "del", "vifc1")
        await self.kernel.add_taps(TAPS, 1400)
        self.assertEqual(command("ip", "-o", "link", "show", "type", "tun").count("vif"), len(TAPS))

    async def test_disk_full(self) -> None:
        """What cannot be written down is not done; the error names the file, also when that must stay."""
        (self.state / "kernel.new").symlink_to("/dev/full")
        before = self.picture()
        for change in (
            self.kernel.add_taps(TAPS, 1400),
            self.kernel.add_subnet("lo", ADDRESS, SUBNET, NETWORK),
        ):
            with self.assertRaises(CommandFailed) as caught:
                await change
            self.assertIn(f"write {self.state}/kernel.json", str(caught.exception))
            self.assertIn("No space left on device", str(caught.exception))
        self.assertEqual(self.picture(), before)
        (self.state / "kernel.json").mkdir()
        with self.assertRaises(CommandFailed) as caught:
            await self.kernel.clean()
        self.assertIn(f"remove {self.state}/kernel.json", str(caught.exception))


class BabeldTests(KernelTestCase):
    """A babeld that outlived its node, and the routes of one that did not."""

    async def orphan(self) -> int:
        """A babeld that nobody supervises any more."""
        settings = BabeldSettings(
            Network.parse(str(NETWORK)), Prefix(5, 16), ("vifc0",), self.state, self.state
        )
        babeld = Babeld(reactor, random.Random(), settings, lambda: None, self.kernel)
        self.addCleanup(babeld.stopService)
        babeld.startService()
        await eventually(lambda: babeld.interfaces, "babeld's interfaces")
        (pid,) = self.namespace.processes("babeld")
        # What follows looks to the supervisor as if the orphan died by itself.
        babeld.supervisor.running = 0
        return pid

    async def test_ours(self) -> None:
        """Ours has ended."""
        pid = await self.orphan()
        self.assertEqual(orphans.end(self.state), [pid])
        self.assertEqual(self.namespace.processes("babeld"), [])

    async def test_routes(self) -> None:
        """The routes of a babeld that was killed go, and nobody else's."""
        await self.kernel.add_subnet("lo", ADDRESS, SUBNET, NETWORK)
        command("ip", "route", "add", "unreachable", "2001:db8:42:7::/64", "proto", "42")
        command("ip", "route", "add", "2001:db8:42:8::/64", "dev", "eth0", "proto", "42")
        command("ip", "route", "add", "2001:db8:43::/48", "dev", "eth0", "proto", "42")
        await self.kernel.flush_routes()
        routes = command("ip", "-6", "route")
        self.assertNotIn("2001:db8:42:7::", routes)
        self.assertNotIn("2001:db8:42:8::", routes)
        self.assertIn("2001:db8:43::/48", routes)
        self.assertIn(f"unreachable {SUBNET}", routes)

    async def test_keep(self) -> None:
        """Ways are kept beside babeld's routes, survive its end, and are changed, dropped and taken back."""
        await self.kernel.add_subnet("lo", ADDRESS, SUBNET, NETWORK)
        before = command("ip", "-6", "route")
        one, two = IPv6Network("2001:db8:42:7::/64"), IPv6Network("2001:db8:42:8::/64")
        here, there = Way("fe80::1", "eth0"), Way("fe80::2", "eth0")
        await self.kernel.keep({Place(one, 0): here, Place(one, 1): there, Place(two, 0): here}, ())
        command("ip", "route", "add", str(one), "via", "fe80::3", "dev", "eth0", "proto", "42")
        self.assertIn("via fe80::3", command("ip", "-6", "route", "get", str(one[1])))
        await self.kernel.keep({Place(one, 2): there}, ())
        self.assertIn("via fe80::2", command("ip", "-6", "route", "get", str(one[1])))
        await self.kernel.keep({}, [Place(one, 2)])
        self.assertIn("via fe80::3", command("ip", "-6", "route", "get", str(one[1])))
        await self.kernel.flush_routes()
        self.assertIn(
            f"via fe80::1 dev eth0 proto 243 src {ADDRESS}", command("ip", "-6", "route", "get", str(one[1]))
        )
        # An interface that is not there is an error, and no hindrance to the rest.
        with self.assertRaises(CommandFailed):
            await self.kernel.keep(
                {Place(IPv6Network("2001:db8:42:9::/64"), 0): Way("fe80::1", "vifc9"), Place(one, 1): here},
                [Place(two, 0), Place(one, 0)],
            )
        routes = command("ip", "-6", "route")
        self.assertIn(f"{one} via fe80::1 dev eth0 proto 243 src {ADDRESS} metric 3072", routes)
        self.assertEqual(routes.count("243"), 1)
        await self.kernel.keep({}, [Place(one, 1)])
        self.assertEqual(command("ip", "-6", "route"), before)
        await self.kernel.keep({Place(one, 0): here}, ())
        await Kernel(reactor, self.state).clean()
        self.assertNotIn(str(one), command("ip", "-6", "route"))


class CarrierTests(KernelTestCase):
    """A tap whose openvpn has ended."""

    async def test_passed_by(self) -> None:
        """Packets take the next way at once, as soon as nobody holds the tap, and come back with it."""
        await self.kernel.add_taps(["vifc0", "vifc1"], 1400)
        await self.kernel.add_subnet("lo", ADDRESS, SUBNET, NETWORK)
        one, two = hold("vifc0"), hold("vifc1")
        self.addCleanup(os.close, two)
        there = IPv6Network("2001:db8:42:7::/64")
        route = [
            "route",
            "add",
            str(there),
            "via",
            "fe80::1",
            "dev",
            "vifc0",
            "proto",
            "42",
            "metric",
            "1024",
        ]
        command("ip", *route)
        await self.kernel.keep(
            {Place(there, 0): Way("fe80::1", "vifc0"), Place(there, 1): Way("fe80::2", "vifc1")}, ()
        )

        def way() -> str:
            return command("ip", "-6", "route", "get", str(there[1]))

        self.assertIn("via fe80::1 dev vifc0 proto babel", way())
        os.close(one)
        await eventually(lambda: "via fe80::2 dev vifc1 proto 243" in way(), "the other way", timeout=2)
        self.assertIn("dev vifc0", command("ip", "-6", "route", "show", "proto", "42"))
        self.addCleanup(os.close, hold("vifc0"))
        await eventually(lambda: "via fe80::1 dev vifc0 proto babel" in way(), "the way back", timeout=2)


def hold(tap: str) -> int:
    """What openvpn does to a tap: it has a carrier until the file is closed."""
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, 0x400454CA, struct.pack("16sH22x", tap.encode(), 0x1002))
    return file


class LockTests(KernelTestCase):
    """One node per directory and namespace."""

    def test_lock(self) -> None:
        """The second is refused in one sentence, until the first lets go."""
        other = short_directory(self)
        lock = Lock(self.state)
        with self.assertRaises(BadInput) as caught:
            Lock(self.state)
        self.assertIn(f"--state {self.state}: another node (process {os.getpid()})", str(caught.exception))
        with self.assertRaises(BadInput) as caught:
            Lock(other)
        self.assertIn("network namespace", str(caught.exception))
        with self.namespace_beside().entered(), self.assertRaises(BadInput):
            Lock(self.state)
        with self.namespace_beside().entered():
            Lock(other).release()
        lock.release()
        lock.release()
        Lock(self.state).release()

    def namespace_beside(self) -> Namespace:
        beside = Namespace()
        self.addCleanup(beside.destroy)
        return beside

    async def test_killed(self) -> None:
        """A process that is killed lets go as well."""
        code = "import sys,time; from pathlib import Path; from vifibnet.node.lock import Lock\n"
        code += "lock = Lock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
        holder = subprocess.Popen([sys.executable, "-c", code, self.state], stdout=subprocess.PIPE)
        assert holder.stdout is not None
        self.assertEqual(holder.stdout.readline(), b"locked\n")
        with self.assertRaises(BadInput):
            Lock(self.state)
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        Lock(self.state).release()

    def test_missing(self) -> None:
        """A directory that is not there is refused, too."""
        with self.assertRaises(BadInput) as caught:
            Lock(self.state / "nowhere")
        self.assertIn("--state", str(caught.exception))


_OPEN_TAP = """
import fcntl, os, struct, time
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"vifc0", 0x1002))
print("open", flush=True)
time.sleep(60)
"""
