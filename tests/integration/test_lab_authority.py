"""Renewing the network's authority under a whole network of real daemons, from the first word of it to the
end of the old one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, TimeoutError

from tests.integration.labs import LabCase, logs
from tests.unit.pki.making import certificate, key, pem
from vifibnet.lab.children import Child, run, sleep
from vifibnet.lab.daemons import program
from vifibnet.lab.network import PORT, Lab
from vifibnet.lab.probe import Watch, outage
from vifibnet.node.authorities import ca_directory_of, write_directory
from vifibnet.node.renewal import REPLACE_FROM, REPLACE_TO
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority, create_successor
from vifibnet.pki.certificates import CA, load_cas, load_certificate, signer
from vifibnet.pki.requests import key_pem, make_key

CLOCK: Any = reactor
DAY = 24 * 3600.0

LIFE = 75.0
"""Seconds that a node's certificate lasts: it is renewed after 50."""

GRACE = 15.0
BOUND = 10.0
"""Seconds without an answer when a busy machine replaces several openvpns at once."""

WAIT = 5
"""Seconds until the new authority signs."""

INTERVAL = 0.1
"""Seconds between two pings."""

STRANGER = "30000/16"


class AuthorityTests(LabCase):
    """Six nodes; one of them is away while it happens, and a seventh joins meanwhile. Each opens up to three
    tunnels, so that there is another way while an openvpn is replaced."""

    timeout = 600

    async def test_renewed(self) -> None:
        """No ping among those that are there is lost by the change, from before it until all have new
        certificates; then each openvpn is replaced, as after any renewal, until the old one's end."""
        options = ("--cert-days", f"{LIFE / DAY:.9f}", "--grace", f"{GRACE / DAY:.9f}")
        lab = await self.up(nodes=6, connection_count=3, start=False, registry_options=options)
        there = ["h0", "h1", "h2", "h3", "h4"]
        await self.start(lab, *there[1:])
        await self.all_reached(lab, *there)
        old = self.authorities(lab).known(self.now())
        forged = make_key()
        when = {"signs_from": self.now(), "now": self.now() - timedelta(seconds=5)}
        stranger = Authority(create_successor(old.ca, forged, days=9, **when), forged)
        self.assertFalse(await self.admitted(lab, stranger))
        self.assertTrue(await self.admitted(lab, old))
        watches = [self.watch(lab, a, b) for a, b in permutations(there, 2) if a < b]
        # Routes that were found only now may move once more.
        await self.until(lab, "pings", lambda: all(map(self.steady, watches)), 60)
        began = CLOCK.seconds()
        said = await self.renew(lab)
        self.assertIn("It signs from", said)
        await self.until(
            lab, "both trusted", lambda: all(len(self.trusted(lab, name)) == 2 for name in there)
        )
        told = CLOCK.seconds() - began
        new = self.authorities(lab).signing(self.now() + timedelta(seconds=WAIT))
        self.assertNotEqual(new.ca, old.ca)
        self.assertTrue(await self.admitted(lab, new))
        self.assertFalse(await self.admitted(lab, stranger))

        await self.until(lab, "its time", lambda: self.now() > new.ca.signs_from, WAIT)
        late = await lab.add()
        self.assertEqual(self.issuer(lab, late), new.ca)
        await self.until(
            lab, "a certificate", lambda: any(self.issuer(lab, name) == new.ca for name in there), LIFE
        )
        replacing = CLOCK.seconds() + LIFE / 3 * REPLACE_FROM - 1.0
        for name in there:
            await self.until(lab, f"{name}'s certificate", lambda: self.issuer(lab, name) == new.ca, LIFE)  # noqa: B023
        renewed = CLOCK.seconds() - began
        await lab.start("h5")
        await self.all_reached(lab, *there, "h5", late, timeout=60)
        everybody = [*there, "h5", late]
        await self.until(
            lab,
            "the old one's end",
            lambda: all(self.trusted(lab, name) == {new.ca} for name in everybody),
            2 * LIFE + GRACE + 20,
        )
        ended = CLOCK.seconds() - began
        self.assertEqual(self.authorities(lab).cas, (new.ca,))
        await self.all_reached(lab, *everybody, timeout=60)
        outages = [await each.stop() for each in watches]
        lost, sent = self.pings(watches, began, replacing)
        more, rest = self.pings(watches, replacing, CLOCK.seconds())
        print(
            f"authority renewed: all trust both after {told:.2f} s, have its certificates after"
            f" {renewed:.0f} s, the old one is gone after {ended:.0f} s; {lost} of {sent} pings lost, and"
            f" {more} of {rest} while all openvpns were replaced within"
            f" {LIFE / 3 * (REPLACE_TO - REPLACE_FROM):.0f} s"
        )
        for name in there:
            log = self.said(lab, name)
            self.assertEqual(log.count(" starts, address "), 1)
            self.assertIn("the openvpn server on vifs0 is started anew", log)
        self.assertEqual(lost, 0, logs(lab))
        # With certificates of a year that takes two months instead.
        self.assertLess(max(each.seconds for each in outages), BOUND)

    # -- the authorities --------------------------------------------------------------------------------

    async def renew(self, lab: Lab) -> str:
        """As an operator does, on the registry's machine."""
        command = [program("vifibnet"), "renew-ca", "--new-key", "--days", "20", "--wait", f"{WAIT}s"]
        database = str(lab.enrolment.directory / "registry.db")
        return (await run(CLOCK, lab.inside("h0", [*command, "--registry", database]))).output

    def authorities(self, lab: Lab) -> Authorities:
        """What the registry has in its files."""
        files = lab.enrolment.directory / "ca.crt", lab.enrolment.directory / "ca.key"
        return Authorities.load(*files, self.now())

    def trusted(self, lab: Lab, name: str) -> set[CA]:
        """What a node trusts: its file says the same as openvpn's directory."""
        directory = lab.directory(name)
        found = {path.read_bytes() for path in ca_directory_of(directory).iterdir()}
        cas = set(load_cas(directory / "ca.pem", "--ca"))
        return cas if {ca.pem for ca in cas} == found else set()

    def issuer(self, lab: Lab, name: str) -> CA | None:
        """Who signed a node's certificate."""
        made = load_certificate(lab.directory(name) / "cert.crt", "--cert")
        return signer(made, self.authorities(lab).cas)

    async def admitted(self, lab: Lab, by: Authority) -> bool:
        """Whether the openvpn server of h0, which runs all the time, lets somebody in with a certificate of
        this authority."""
        with TemporaryDirectory() as place:
            directory = Path(place)
            made = certificate(by, STRANGER, key(), now=self.now(), days=1)
            (directory / "cert").write_bytes(pem(made))
            (directory / "key").write_bytes(key_pem(key()))
            (directory / "ca").mkdir()
            write_directory(directory / "ca", [by.ca, *self.authorities(lab).cas])
            words = (
                f"openvpn --dev null --client --nobind --remote {lab.host('h0').underlay} {PORT} --proto udp4"
                f" --capath {directory}/ca --cert {directory}/cert --key {directory}/key --verb 3"
                " --tls-timeout 1 --hand-window 3 --connect-retry-max 1"
            )
            child = Child(CLOCK, lab.inside("h1", words.split()))
            decided: Deferred[bool] = Deferred()
            said: list[str] = []

            def line(text: str) -> None:
                said.append(text)
                if not decided.called and "PUSH_REPLY" in text:
                    decided.callback(True)
                if not decided.called and "TLS Error" in text:
                    decided.callback(False)

            child.on_line = line
            child.start()
            try:
                return await decided.addTimeout(20, CLOCK)
            except TimeoutError:
                raise self.failureException("\n".join(said)) from None
            finally:
                await child.stop()

    @staticmethod
    def now() -> datetime:
        return datetime.fromtimestamp(CLOCK.seconds(), UTC)

    @staticmethod
    def said(lab: Lab, *names: str) -> str:
        """What nodes have logged."""
        logs = (lab.directory(name) / "log" / "vifibnet-node.log" for name in names)
        return "".join(log.read_text() for log in logs)

    # -- the network ------------------------------------------------------------------------------------

    def watch(self, lab: Lab, source: str, target: str) -> Watch:
        """Pings that go on, 10 a second."""
        watch = Watch.start(CLOCK, partial(lab.inside, source), lab.host(target).address, interval=INTERVAL)
        self.addCleanup(lambda: Deferred.fromCoroutine(watch.child.stop()))
        return watch

    @staticmethod
    def steady(watch: Watch) -> bool:
        """Whether none of the last pings of five seconds was lost."""
        last = max(watch.arrivals, default=0)
        return last > 50 and all(number in watch.arrivals for number in range(last - 50, last))

    @staticmethod
    def pings(watches: list[Watch], begin: float, end: float) -> tuple[int, int]:
        """How many pings were lost, and how many were sent, between two moments."""
        parts = [{n: t for n, t in each.arrivals.items() if begin <= t < end} for each in watches]
        outages = [outage(part, INTERVAL) for part in parts]
        return sum(each.lost for each in outages), sum(each.sent for each in outages)

    async def until(self, lab: Lab, what: str, happened: Callable[[], bool], timeout: float = 20.0) -> None:
        """Wait for something that a callable tells."""
        deadline = CLOCK.seconds() + timeout
        while not happened():
            self.assertLess(CLOCK.seconds(), deadline, f"{what}\n{logs(lab)}")
            await sleep(CLOCK, 0.1)
