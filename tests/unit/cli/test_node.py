"""The options of a node: the manual's names and defaults, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli import node as cli
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.parameters import PARAMETERS
from vifibnet.node.config import NodeConfig

REQUIRED = ("--ca", "/x/ca.pem", "--cert", "/x/cert.crt", "--key", "/x/cert.key")

TWISTD = "from twisted.scripts.twistd import run; run()"

FAILING = """
from twisted.application.service import Application, Service
from twisted.internet import reactor
from vifibnet.cli.node import give_up

class Failing(Service):
    def startService(self):
        give_up(reactor)

    def stopService(self):
        print("stopped in order")

application = Application("failing")
Failing().setServiceParent(application)
"""
"""An application whose start fails."""


class GiveUpTests(SynchronousTestCase):
    """A real twistd."""

    def test_status(self) -> None:
        """Everything is stopped, and the exit status says that it was not wanted."""
        file = Path(self.mktemp())
        file.write_text(FAILING)
        pid = file.with_name("twistd.pid").absolute()
        done = subprocess.run(
            [sys.executable, "-c", TWISTD, "-n", f"--pidfile={pid}", "-y", file],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("stopped in order", done.stdout)
        self.assertIn("Server Shut Down", done.stdout)
        self.assertFalse(pid.exists())


class OptionsTests(SynchronousTestCase):
    """Parsing, without looking at the machine."""

    def setUp(self) -> None:
        """What the machine is like does not matter here."""
        self.checked: list[NodeConfig] = []
        self.patch(cli, "check", self.checked.append)

    def parse(self, *words: str, required: tuple[str, ...] = REQUIRED) -> NodeConfig:
        """Parse a command line."""
        options = cli.Options()
        options.parseOptions([*required, *words])
        self.assertEqual(self.checked[-1:], [options.config])
        return options.config

    def refused(self, *words: str, required: tuple[str, ...] = REQUIRED) -> str:
        """The sentence that a command line is refused with."""
        text = self.assertRaises(SystemExit, lambda: self.parse(*words, required=required)).code
        assert isinstance(text, str)
        self.assertNotIn("\n", text)
        self.assertEqual(self.checked, [])
        return text.removeprefix("vifibnet-node: ")

    def test_the_manuals_defaults(self) -> None:
        """Verbatim."""
        config = self.parse()
        self.assertEqual(config.peers_db_refresh, 3600)
        self.assertEqual(config.log, Path("/var/log"))
        self.assertEqual(config.state, Path("/var/lib/vifibnet"))
        self.assertEqual(config.verbose, 0)
        self.assertEqual(config.hello, 15)
        self.assertEqual(config.pp, ((1194, "udp"),))
        self.assertEqual(config.tunnel_refresh, 300)
        self.assertEqual(config.connection_count, 20)
        self.assertEqual(config.refresh_rate, 0.05)
        self.assertEqual(
            (config.ip, config.interfaces, config.server, config.wireless, config.dh, config.openvpn_args),
            ((), (), None, False, None, ()),
        )
        self.assertEqual((config.mtu, config.main_interface), (1400, "lo"))
        self.assertEqual(config.peer_port, 326)
        self.assertEqual(self.parse("--peer-port", "0").peer_port, 0)
        self.assertEqual((config.update_interval, config.max_clients, config.roll), (None, 256, 60))
        self.assertEqual((config.babel_key, config.given), (None, frozenset()))
        self.assertEqual(config.peers_db, Path("/var/lib/vifibnet/peers.db"))
        self.assertEqual(NodeConfig(ca=config.ca, cert=config.cert, key=config.key), config)

    def test_the_manuals_names(self) -> None:
        """All options at once, long; the openvpn arguments exactly as they are given."""
        words = """
            --ip 192.0.2.1 1194 udp --ip example.com 443 tcp-client --interface eth0 --interface eth1
            --peers-db-refresh 60.5 --log /l --state /s --verbose 3 --server 192.0.2.2 --server-port 443
            --hello 0.5 --wireless --pp 1194 udp --pp 443 tcp-server --tunnel-refresh 30 --dh /x/dh2048.pem
            --connection-count 5 --refresh-rate 1 --mtu 1300 --main-interface vifibnet0 --fresh-key
            --update-interval 3 --max-clients 40 --heartbeat 0.5 --peer-port 3260
            -- --cipher AES-128-GCM --verb 4 --
        """
        config = self.parse(*words.split())
        self.assertEqual(
            config,
            NodeConfig(
                ca=Path("/x/ca.pem"),
                cert=Path("/x/cert.crt"),
                key=Path("/x/cert.key"),
                ip=(Endpoint("192.0.2.1", 1194, "udp"), Endpoint("example.com", 443, "tcp-client")),
                interfaces=("eth0", "eth1"),
                peers_db_refresh=60.5,
                log=Path("/l"),
                state=Path("/s"),
                verbose=3,
                server="192.0.2.2",
                server_port=443,
                hello=0.5,
                wireless=True,
                pp=((1194, "udp"), (443, "tcp-server")),
                tunnel_refresh=30,
                dh=Path("/x/dh2048.pem"),
                connection_count=5,
                refresh_rate=1,
                mtu=1300,
                update_interval=3,
                max_clients=40,
                heartbeat=0.5,
                given=frozenset(PARAMETERS) - {"roll", "babel-key"},
                main_interface="vifibnet0",
                fresh_key=True,
                peer_port=3260,
                openvpn_args=("--cipher", "AES-128-GCM", "--verb", "4", "--"),
            ),
        )

    def test_the_manuals_short_names(self) -> None:
        """-i -l -s -v -w."""
        config = self.parse("-i", "eth0", "-l", "/l", "-s", "/s", "-v", "5", "-w")
        self.assertEqual(
            (config.interfaces, config.log, config.state, config.verbose, config.wireless),
            (("eth0",), Path("/l"), Path("/s"), 5, True),
        )

    def test_key(self) -> None:
        """As an option or, as in 2012, among the openvpn arguments, where it is taken out."""
        required = REQUIRED[:4]
        config = self.parse("--", "--key", "/x/k", "--verb", "4", required=required)
        self.assertEqual((config.key, config.openvpn_args), (Path("/x/k"), ("--verb", "4")))
        config = self.parse("--", "--key", "/x/cert.key")
        self.assertEqual((config.key, config.openvpn_args), (Path("/x/cert.key"), ()))

    def test_file(self) -> None:
        """The manual's @file, with options with and without dashes, and openvpn's."""
        path = Path(self.mktemp())
        path.write_text(
            "ca /x/ca.pem\n--cert /x/cert.crt # mine\n\npp 1194 udp\npp 1195 tcp-server\nhello 1\n"
        )
        config = self.parse(f"@{path}", "--", "--key", "/x/cert.key", required=())
        self.assertEqual(config.pp, ((1194, "udp"), (1195, "tcp-server")))
        self.assertEqual((config.hello, config.key), (1, Path("/x/cert.key")))

    def test_dh(self) -> None:
        """none is no file."""
        self.assertIsNone(self.parse("--dh", "none").dh)

    def test_relative_paths(self) -> None:
        """They are relative to where twistd was started, whatever its --rundir."""
        config = self.parse("--log", "l", required=("--ca", "a", "--cert", "b", "--key", "c"))
        for path, name in ((config.ca, "a"), (config.cert, "b"), (config.key, "c"), (config.log, "l")):
            self.assertEqual(path, Path.cwd() / name)

    def test_refusals(self) -> None:
        """Each names its option and says what would be right."""
        for words, named, remedy in (
            ("--verbose 6", "--verbose", "from 0 to 5"),
            ("-v -1", "--verbose", "from 0 to 5"),
            ("--refresh-rate 1.1", "--refresh-rate", "from 0 to 1"),
            ("--refresh-rate nan", "--refresh-rate", "from 0 to 1"),
            ("--pp 0 udp", "--pp", "from 1 to 65535"),
            ("--pp 65536 udp", "--pp", "from 1 to 65535"),
            ("--pp 1194 tcp", "--pp", "udp or tcp-server"),
            ("--pp 1194 udp --pp 1194 udp", "--pp", "only once"),
            ("--ip 192.0.2.1 0 udp", "--ip", "from 1 to 65535"),
            ("--ip 192.0.2.1 1 tcp-server", "--ip", "tcp-client"),
            ("--ip 192.0.2.1.5 1 udp", "--ip", "192.0.2.1 1194 udp"),
            ("--server-port 99999 --server a", "--server-port", "from 1 to 65535"),
            ("--server 192.0.2.1", "--server", "give both"),
            ("--server-port 443", "--server-port", "give both"),
            ("--server a,b --server-port 443", "--server", "IP address or a name"),
            ("--hello 0", "--hello", "seconds from 0.05"),
            ("--hello soon", "--hello", "seconds from 0.05"),
            ("--tunnel-refresh 0", "--tunnel-refresh", "seconds"),
            ("--connection-count -1", "--connection-count", "integer from 0"),
            ("--mtu 1279", "--mtu", "from 1280"),
            ("--max-clients 0", "--max-clients", "from 1"),
            ("--update-interval 0.1", "--update-interval", "seconds from 0.2"),
            ("--babel-key 00", "--babel-key", "--help"),
            ("--interface a/b", "--interface", "ip link"),
            ("--main-interface 1234567890123456", "--main-interface", "ip link"),
            ("--main-interface eth0 -i eth0", "--main-interface", "another"),
            ("-- --key", "--key", "key file"),
            ("-- --key /other", "--key", "one of them"),
            ("--colour red", "--colour", "--help"),
            ("red", "red", "--help"),
        ):
            sentence = self.refused(*words.split())
            self.assertIn(named, sentence.partition(";")[0], words)
            self.assertIn(remedy, sentence, words)
        self.assertIn("--key", self.refused(required=REQUIRED[:4]))
        self.assertIn("--ca", self.refused(required=REQUIRED[2:]))

    def test_help(self) -> None:
        """Every option of the manual is explained."""
        text = str(cli.Options())
        names = """
            ip interface
            peers-db-refresh log state verbose server server-port hello wireless pp tunnel-refresh
            dh ca cert connection-count refresh-rate key mtu main-interface update-interval max-clients
        """
        for name in names.split():
            self.assertIn(f"--{name} ", text.replace("\n", " \n"), name)
        words = " ".join(text.split())
        for said in (
            "tunnel-refresh SECONDS how often the worst tunnels are replaced (300)",
            "0 to 1 (0.05)",
        ):
            self.assertIn(said, words)
