"""A node that was away for a month, with the registry down and all it knows out of date but one address."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from twisted.internet import reactor

from tests.integration.labs import LabCase, logs
from vifibnet.lab import faults
from vifibnet.lab.children import run, sleep, together
from vifibnet.lab.network import PORT, Lab
from vifibnet.node.status import FILE, read_status

MONTH = 31 * 24 * 3600.0
MOVED = ("h0", "h1", "h2")
STAYED, AWAY = "h3", "h4"

NAT = f"""
add table inet nat
add chain inet nat input {{ type filter hook input priority 0; }}
add rule inet nat input udp dport {PORT} drop
"""
"""What keeps others from calling a node, for nft."""


class HomecomingTests(LabCase):
    """Five nodes, of which one is away while three move."""

    def known(self, lab: Lab) -> dict[str, tuple[str, int]]:
        """What the one that is away has in its peer database: endpoints and failures, by host."""
        hosts = {host.prefix: name for name, host in lab.hosts.items()}
        with closing(sqlite3.connect(lab.directory(AWAY) / "peers.db")) as db:
            rows = db.execute("SELECT bits, endpoints, failures FROM peer").fetchall()
        return {hosts[f"{int(bits, 2)}/{len(bits)}"]: (where, failures) for bits, where, failures in rows}

    def let_a_month_pass(self, lab: Lab) -> None:
        """Everything that the one that is away knows is as old as that."""
        with closing(sqlite3.connect(lab.directory(AWAY) / "peers.db")) as db:
            columns = ("last_seen", "last_success", "told")
            db.execute(f"UPDATE peer SET {', '.join(f'{name} = {name} - {MONTH}' for name in columns)}")  # noqa: S608
            db.commit()

    def where(self, lab: Lab, name: str) -> str:
        """Where a host's openvpn server is now."""
        return f"{lab.host(name).underlay},{PORT},udp"

    async def until_old_addresses_failed(self, lab: Lab) -> None:
        """Wait until the node that is back has tried all the peers that have moved."""
        deadline = reactor.seconds() + 30
        while not all(self.known(lab)[name][1] for name in MOVED):
            self.assertLess(reactor.seconds(), deadline, f"{self.known(lab)}\n{logs(lab)}")
            await sleep(reactor, 0.2)

    async def test_homecoming(self) -> None:
        """By the one address that is still right it gets in, and from there everywhere."""
        lab = await self.up(nodes=5, connection_count=4)
        deadline = reactor.seconds() + 20
        while len(self.known(lab)) < 4:
            self.assertLess(reactor.seconds(), deadline, logs(lab))
            await sleep(reactor, 0.1)
        await lab.stop(AWAY)
        await faults.kill_registry(lab)
        # Nobody can call it, so that it is by its own tunnels that it gets in.
        await run(reactor, lab.inside(AWAY, ["nft", "-f", "-"]), stdin=NAT)
        old = {name: self.where(lab, name) for name in MOVED}
        # Those who move are in the same plight: the only address that they know and that is right is one.
        await together(lab.stop(name) for name in MOVED)
        for name in MOVED:
            await faults.move(lab, name)
        await self.start(lab, *MOVED)
        await self.all_reached(lab, *MOVED, STAYED)

        self.let_a_month_pass(lab)
        self.assertEqual({name: self.known(lab)[name][0] for name in MOVED}, old)
        self.assertEqual(self.known(lab)[STAYED][0], self.where(lab, STAYED))
        # Without asking there is one tunnel, and no more.
        await lab.node(AWAY).start(lab.node_command(AWAY, "--peer-port", "0"))
        await self.until_old_addresses_failed(lab)
        await self.until_tunnels(lab, {STAYED: self.where(lab, STAYED)})
        self.assertEqual({name: self.known(lab)[name][0] for name in MOVED}, old)
        await lab.stop(AWAY)

        self.let_a_month_pass(lab)
        began = reactor.seconds()
        await lab.start(AWAY)
        wanted = {name: self.where(lab, name) for name in (*MOVED, STAYED)}
        await self.until_tunnels(lab, wanted)
        took = reactor.seconds() - began
        await self.all_reached(lab)
        print(f"away for a month, no registry: tunnels to all four, three of which moved, after {took:.1f} s")

    async def until_tunnels(self, lab: Lab, wanted: dict[str, str]) -> None:
        """Wait until the node that is back has these tunnels and no other: hosts, and where each leads to."""
        hosts = {host.prefix: name for name, host in lab.hosts.items()}
        deadline = reactor.seconds() + 30
        while True:
            status = await read_status(reactor, lab.directory(AWAY) / FILE) or {}
            tunnels = [each for each in status.get("tunnels", ()) if each["up"]]
            found = {hosts[each["peer"]]: each["remote"] for each in tunnels}
            if found == wanted:
                return
            self.assertLess(reactor.seconds(), deadline, f"{found}, not {wanted}\n{logs(lab)}")
            await sleep(reactor, 0.1)
