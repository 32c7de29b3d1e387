"""Certificates that last seconds, renewed by whole nodes with a real registry."""

from __future__ import annotations

import time
from typing import ClassVar

from tests.integration.test_node import REGISTRY_PORT, Machine, RegistryCase, until
from vifibnet.pki.certificates import load_certificate

DAY = 24 * 3600.0
LIFE = 21.0
SERVER = ("--server", "10.99.0.1", "--server-port", str(REGISTRY_PORT))


def serial(machine: Machine) -> int:
    """The serial number of a machine's certificate."""
    return load_certificate(machine.directory / "cert.crt", "--cert").serial_number


def key(machine: Machine) -> bytes:
    """Its private key."""
    return (machine.directory / "cert.key").read_bytes()


def log(machine: Machine) -> str:
    """What the node wrote."""
    path = machine.directory / "vifibnet-node.log"
    return path.read_text() if path.exists() else ""


class RenewalTests(RegistryCase):
    """Both certificates last 21 seconds; those that the registry gives, a day."""

    cert_days: ClassVar[tuple[float, float]] = (LIFE / DAY, LIFE / DAY)
    options = "--cert-days 1"

    def test_renewed(self) -> None:
        """No node is restarted or loses the other; what held the old certificate is replaced in time.

        One of them makes a fresh key.
        """
        began = time.monotonic()
        before = [serial(machine) for machine in self.machines]
        self.start_registry()
        one, two = self.machines
        keys = [key(machine) for machine in self.machines]
        one.start(*SERVER, "--fresh-key")
        two.start(*SERVER)
        one.reaches(two)
        two.reaches(one)
        self.assertEqual([serial(machine) for machine in self.machines], before)
        until(lambda: all("is renewed until" in log(machine) for machine in self.machines), "renewed", LIFE)
        self.assertLess(time.monotonic() - began, LIFE)
        self.assertNotIn("anew", log(one) + log(two))
        self.assertEqual(
            [key(machine) == old for machine, old in zip(self.machines, keys, strict=True)], [False, True]
        )
        self.assertTrue(one.ping(two.address))
        renewed = [serial(machine) for machine in self.machines]
        self.assertFalse(set(renewed) & set(before))
        time.sleep(max(0.0, LIFE + 2 - (time.monotonic() - began)))
        for machine in self.machines:
            self.assertIn("the openvpn server on vifs0 is started anew", log(machine))
        one.reaches(two)
        two.reaches(one)
        for machine in self.machines:
            assert machine.process is not None
            self.assertIsNone(machine.process.poll())
            until(lambda: machine.status()["registry"]["connected"], "the registry")  # noqa: B023
        self.assertEqual([serial(machine) for machine in self.machines], renewed)


class ExpiredTests(RegistryCase):
    """One node has been away for too long."""

    cert_days: ClassVar[tuple[float, float]] = (365, 0.5 / DAY)
    options = "--grace 1"

    def test_expired(self) -> None:
        """It does nothing before its certificate is renewed, and is a node like any other then."""
        one, two = self.machines
        time.sleep(0.6)
        links = [machine.namespace for machine in self.machines]
        until(lambda: not any("NO-CARRIER" in link.ip("link") for link in links), "the cable")
        until(lambda: all("fe80" in link.ip("-6", "route") for link in links), "its addresses")
        before = two.picture()
        two.start(*SERVER)
        until(lambda: "waiting for the registry to renew it" in two.said, "it waits")
        one.start(*SERVER)
        self.assertEqual(two.picture(), before)
        self.start_registry()
        two.reaches(one)
        one.reaches(two)
        self.assertIn("is renewed until", log(two))


class TooLateTests(RegistryCase):
    """One node has been away for longer than that."""

    cert_days: ClassVar[tuple[float, float]] = (365, 0.5 / DAY)
    options = "--grace 0"

    def test_too_late(self) -> None:
        """It is a stranger: told so, without a tunnel; without a registry it does not even start."""
        _, two = self.machines
        time.sleep(0.6)
        status, said = two.try_to_start()
        self.assertEqual(status, 1)
        self.assertRegex(said, r"^vifibnet-node: --cert .*/cert.crt: expired on .*--server")
        self.start_registry()
        two.start(*SERVER)
        until(lambda: "not one that the registry knows" in log(two), "it is told")
        self.assertEqual(two.namespace.processes("openvpn"), [])
