"""Every option of the manual at once, on the command line and in files, on real daemons."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_node import TWISTD, TwoMachines, until
from vifibnet.model.endpoints import Endpoint

OPTIONS = """\
# Long options, with and without their dashes; durations take fractions.
ip {ip} 1195 tcp-client
--interface eth9
peers-db-refresh 1800.5
@files.conf

verbose 3
server 192.0.2.99
server-port 8443
hello 0.2
wireless
pp 1195 tcp-server
--pp 1194 udp
tunnel-refresh 120
connection-count 3
refresh-rate 0.1
"""
FILES = "log .\nstate '.'\ndh dh2048.pem\nca ca.pem\ncert cert.crt\n"


class ManualTests(TwoMachines):
    """One node that is told everything by its command line, one by a file with a file in it."""

    def test_every_option(self) -> None:
        """Both run, and each option has become what the README says."""
        self.two.know(self.one, Endpoint("10.99.0.1", 1195, "tcp-client"))
        for machine, address in ((self.one, "10.99.0.1"), (self.two, "10.99.0.2")):
            Path(machine.directory, "vifibnet.conf").write_text(OPTIONS.format(ip=address))
            Path(machine.directory, "files.conf").write_text(FILES)
            Path(machine.directory, "dh2048.pem").touch()
        node = ["ip", "netns", "exec", self.one.namespace.name, TWISTD, "-n", "--pidfile=", "vifibnet-node"]
        words = (
            "--ip 10.99.0.1 1195 tcp-client -i eth9 --peers-db-refresh 1800 -l . -s . -v 3"
            " --server 192.0.2.99 --server-port 8443 --hello 0.2 -w --pp 1195 tcp-server --pp 1194 udp"
            " --tunnel-refresh 120 --dh none --ca ca.pem --cert cert.crt"
            " --connection-count 3 --refresh-rate 0.1 -- --key cert.key --mssfix 1200"
        )
        self.assertFalse(self.two.ping(self.one.address))
        self.one.process = self.one.popen([*node, *words.split()])
        until(lambda: len(self.one.namespace.processes("--mode")) == 2, "the first node's servers")
        node[3] = self.two.namespace.name
        words = "@vifibnet.conf -- --key cert.key --mssfix 1200"
        self.two.process = self.two.popen([*node, *words.split()])
        self.two.reaches(self.one)
        self.one.reaches(self.two)

        [tunnel] = self.two.status()["tunnels"]
        self.assertEqual(tunnel["remote"], "10.99.0.1,1195,tcp-client")
        for machine, address in ((self.one, "10.99.0.1"), (self.two, "10.99.0.2")):
            self.assertEqual(machine.status()["endpoints"], f"{address},1195,tcp-client")
            daemons = machine.namespace.processes("openvpn")
            self.assertGreaterEqual(len(daemons), 2)
            for daemon in daemons:
                arguments = Path(f"/proc/{daemon}/cmdline").read_text().split("\0")
                for option, value in (("--mssfix", "1200"), ("--verb", "3"), ("--ping-exit", "4")):
                    self.assertEqual(arguments[arguments.index(option) + 1], value)
            [babeld] = machine.namespace.processes("babeld")
            arguments = Path(f"/proc/{babeld}/cmdline").read_text().split("\0")
            self.assertEqual(
                (arguments[arguments.index("-h") + 1], arguments[arguments.index("-H") + 1]), ("0.2",) * 2
            )
            file = Path(arguments[arguments.index("-c") + 1])
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
            interfaces = [each for each in file.read_text().splitlines() if each.startswith("interface ")]
            # Three clients, four spare ones, two servers, one on the LAN.
            self.assertEqual(len(interfaces), 10)
            self.assertEqual([each for each in interfaces if " type wireless " not in each], [])
            for name in ("vifibnet-babeld.log", "vifibnet-node.log", "vifibnet-openvpn-vifs1.log"):
                self.assertTrue((machine.directory / name).exists(), name)
        self.assertIn("Peer Connection Initiated", self.two.logs())
