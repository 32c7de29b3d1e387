"""OpenVPN's command lines and management lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.wire.openvpn import (
    ByteCount,
    ClientStatus,
    Error,
    Established,
    Event,
    Fatal,
    Hold,
    Log,
    ManagementReader,
    Notice,
    OpenVPNSettings,
    State,
    Status,
    Success,
    client_command,
    complaint,
    server_command,
)

SETTINGS = OpenVPNSettings(Path("/c/ca"), Path("/c/cert"), Path("/c/key"), Path("/state dir"), Path("/log"))
PEER = Prefix.parse("1/16")


def values(command: list[str], option: str) -> list[str]:
    """What follows each occurrence of an option."""
    return [command[number + 1] for number, word in enumerate(command) if word == option]


class CommandTests(SynchronousTestCase):
    """The command lines."""

    def client(self, *endpoints: Endpoint, settings: OpenVPNSettings = SETTINGS) -> list[str]:
        return client_command(settings, tap="vifc0", peer=PEER, endpoints=endpoints)

    def test_server(self) -> None:
        """A server listens on both families; what is for UDP alone is given for UDP alone."""
        udp = server_command(SETTINGS, tap="vifs0", port=1194, proto="udp")
        self.assertEqual(udp[0], "openvpn")
        self.assertEqual((values(udp, "--proto"), values(udp, "--port")), (["udp6"], ["1194"]))
        self.assertIn("--multihome", udp)
        alone = server_command(SETTINGS, tap="vifs0", port=1194, proto="udp", multihome=False)
        self.assertEqual([word for word in udp if word != "--multihome"], alone)
        self.assertEqual(values(udp, "--explicit-exit-notify"), ["1"])
        self.assertEqual(values(udp, "--mtu-disc"), ["no"])
        tcp = server_command(SETTINGS, tap="vifs1", port=443, proto="tcp-server")
        self.assertEqual(values(tcp, "--proto"), ["tcp6-server"])
        self.assertIn("--tcp-nodelay", tcp)
        self.assertNotIn("--explicit-exit-notify", tcp)
        for command in (udp, tcp):
            self.assertEqual(values(command, "--dh"), ["none"])
            self.assertEqual(values(command, "--remote-cert-tls"), ["client"])
            self.assertNotIn("--client-to-client", command)

    def test_client(self) -> None:
        """A client believes one name only and tries each endpoint in turn."""
        command = self.client(Endpoint("1.2.3.4", 1194, "udp"), Endpoint("example.com", 443, "tcp-client"))
        at = command.index("--verify-x509-name")
        self.assertEqual(command[at + 1 : at + 3], ["1/16", "name"])
        self.assertEqual(values(command, "--remote"), ["1.2.3.4", "example.com"])
        at = command.index("example.com")
        self.assertEqual(command[at + 1 : at + 3], ["443", "tcp-client"])
        self.assertEqual(values(command, "--connect-retry-max"), ["1"])
        self.assertIn("--explicit-exit-notify", command)
        self.assertEqual(values(command, "--mtu-disc"), ["no"])
        self.assertIn("--socket-flags", command)
        # The first filter that fits decides, and the last fits everything.
        self.assertEqual(command[command.index("ignore") - 1 :][:3], ["--pull-filter", "ignore", ""])
        self.assertGreater(command.index("ignore"), len(command) - command[::-1].index("accept") - 1)

    def test_protocols(self) -> None:
        """What is for UDP or TCP alone is given where one endpoint has it."""
        self.assertNotIn("--socket-flags", self.client(Endpoint("::1", 1, "udp6")))
        self.assertNotIn("--fast-io", self.client(Endpoint("::1", 1, "tcp6-client")))

    def test_common(self) -> None:
        """Both sides have the same tap, pings, buffers and management."""
        settings = replace(SETTINGS, hello=0.5, mtu=1300, verbose=4)
        for command in (
            server_command(settings, tap="vifs0", port=1194, proto="udp"),
            self.client(Endpoint("::1", 1, "udp"), settings=settings),
        ):
            self.assertEqual(values(command, "--tun-mtu"), ["1300"])
            self.assertEqual((values(command, "--ping"), values(command, "--ping-exit")), (["1"], ["4"]))
            self.assertEqual(values(command, "--verb"), ["4"])
            self.assertEqual(values(command, "--key"), ["/c/key"])
            self.assertRegex(values(command, "--management")[0], r"^/state dir/vif[cs]0\.sock$")
            self.assertIn("--management-hold", command)
            # It would end with us.
            self.assertNotIn("--management-client", command)

    def test_extra(self) -> None:
        """The operator's arguments come last; the key may be among them."""
        settings = replace(SETTINGS, key=None, extra=("--key", "/my key", "--verb", "9"))
        command = self.client(Endpoint("::1", 1, "udp"), settings=settings)
        self.assertEqual(command[-4:], ["--key", "/my key", "--verb", "9"])
        self.assertEqual(values(command, "--key"), ["/my key"])

    def test_revoked(self) -> None:
        """Both sides look at who was revoked, where there is such a directory."""
        settings = replace(SETTINGS, revoked=Path("/run/x"))
        for command in (
            server_command(settings, tap="vifs0", port=1194, proto="udp"),
            self.client(Endpoint("::1", 1, "udp"), settings=settings),
        ):
            at = command.index("--crl-verify")
            self.assertEqual(command[at + 1 : at + 3], ["/run/x", "dir"])
        self.assertNotIn("--crl-verify", self.client(Endpoint("::1", 1, "udp")))

    def test_serial(self) -> None:
        """A client's serial number is what openvpn says in decimal, if it is a number at all."""
        for text, serial in (("85070591730234615865843651857942052864", 1 << 126), ("x", None), ("", None)):
            event = Established(1, "1/16", "", 0, {"tls_serial_0": text})
            self.assertEqual(event.serial, serial)

    def test_pings(self) -> None:
        """Silence is borne for four hellos, in whole seconds."""
        for hello, ping_exit in ((15.0, 60), (0.2, 4), (1.3, 6), (4.0, 16)):
            settings = replace(SETTINGS, hello=hello)
            self.assertEqual(settings.ping_exit, ping_exit)


class ComplaintTests(SynchronousTestCase):
    """What of openvpn's last words is told."""

    def test_complaint(self) -> None:
        """The line that says what is wrong, not the ones around it."""
        for lines, wanted in (
            ([], ""),
            (
                ["Options error: --fragment needs to be at least 68", "Use --help for more information."],
                "Options error: --fragment needs to be at least 68",
            ),
            (
                [
                    "2026-11-22 11:43:36 WARNING: cannot stat file '/nofile': No such file (errno=2)",
                    "Options error: --key fails with '/nofile': No such file or directory (errno=2)",
                    "Options error: Please correct these errors.",
                ],
                "Options error: --key fails with '/nofile': No such file or directory (errno=2)",
            ),
            (
                [
                    "2026-11-22 11:43:36 us=12 OpenVPN 2.6.14 x86_64",
                    "2026-11-22 11:43:36 us=13 ERROR: Cannot ioctl TUNSETIFF srv: Device busy (errno=16)",
                    "2026-11-22 11:43:36 us=14 Exiting due to fatal error",
                ],
                "ERROR: Cannot ioctl TUNSETIFF srv: Device busy (errno=16)",
            ),
            (["2026-11-22 11:43:36 something", "strange"], "strange"),
        ):
            self.assertEqual(complaint(lines), wanted)

    @given(st.lists(st.text()))
    def test_any_lines(self, lines: list[str]) -> None:
        """Whatever it said."""
        complaint(lines)


_HEADER = (
    "HEADER\tCLIENT_LIST\tCommon Name\tReal Address\tVirtual Address\tVirtual IPv6 Address\tBytes Received"
    "\tBytes Sent\tConnected Since\tConnected Since (time_t)"
    "\tUsername\tClient ID\tPeer ID\tData Channel Cipher"
)
_WORDS = st.sampled_from(
    [
        *(">HOLD", ">STATE", ">BYTECOUNT", ">CLIENT", ">LOG", ">FATAL", ">NOTIFY", "SUCCESS", "ERROR", "END"),
        *(":", ",", "\t", "=", "TITLE", "HEADER", "CLIENT_LIST", "ESTABLISHED", "ENV", "Client ID", "²", "7"),
        *("trusted_port", "9" * 5000, "CONNECTED", _HEADER, "CLIENT_LIST\t1/16"),
    ]
)
_LINES = st.lists(st.one_of(st.text(), st.lists(_WORDS, max_size=9).map("".join)), max_size=30)


class ReaderTests(SynchronousTestCase):
    """The management lines, as openvpn 2.6.14 has sent them."""

    def read(self, *lines: str) -> list[Event]:
        reader = ManagementReader()
        return [event for line in lines if (event := reader.feed(line)) is not None]

    def test_client(self) -> None:
        """What a client tells."""
        self.assertEqual(
            self.read(
                ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info",
                ">HOLD:Waiting for hold release:0",
                "SUCCESS: real-time state notification set to ON",
                ">STATE:1795348612,TCP_CONNECT,,,,,,",
                ">STATE:1795348612,RECONNECTING,connection-failed,,,,,",
                ">STATE:1795348612,CONNECTED,SUCCESS,,fd99::1,1194,,",
                ">BYTECOUNT:2321,1974",
                ">NOTIFY:info,server-pushed-halt,",
                ">NOTIFY:info,server-pushed-halt,full",
                ">NOTIFY:info,remote-exit,EXIT",
                ">LOG:1795348612,NF,Exiting, alas",
                ">FATAL:All connections have failed",
                "ERROR: unknown command, enter 'help' for more options",
            ),
            [
                Hold(),
                Success("real-time state notification set to ON"),
                State("TCP_CONNECT"),
                State("RECONNECTING", "connection-failed"),
                State("CONNECTED", "SUCCESS", "fd99::1", 1194),
                ByteCount(2321, 1974),
                Notice("server-pushed-halt"),
                Notice("server-pushed-halt", "full"),
                Log("NF", "Exiting, alas"),
                Fatal("All connections have failed"),
                Error("unknown command, enter 'help' for more options"),
            ],
        )

    def test_established(self) -> None:
        """A client's coming is told in a block of lines, between which others may stand."""
        (event,) = self.read(
            ">CLIENT:ENV,common_name=lost",
            ">CLIENT:ESTABLISHED,7",
            ">CLIENT:ENV,common_name=1/16",
            ">CLIENT:ENV,trusted_ip6=::ffff:10.99.0.2",
            ">CLIENT:ENV,trusted_port=47496",
            ">CLIENT:ENV,X509_0_CN=a=b",
            ">CLIENT:ENV,END",
            ">CLIENT:ENV,END",
        )
        assert isinstance(event, Established)
        self.assertEqual((event.cid, event.name, event.address), (7, "1/16", "10.99.0.2"))
        self.assertEqual((event.port, event.env["X509_0_CN"]), (47496, "a=b"))
        (event,) = self.read(">CLIENT:ESTABLISHED,0", ">CLIENT:ENV,trusted_ip6=fd99::2", ">CLIENT:ENV,END")
        assert isinstance(event, Established)
        self.assertEqual((event.address, event.port, event.name), ("fd99::2", 0, ""))

    def test_status(self) -> None:
        """The table of clients, by the names of its columns."""
        table = [
            "TITLE\tOpenVPN 2.6.14 x86_64-pc-linux-gnu",
            "TIME\t2026-11-22 11:56:52\t1795348612",
            _HEADER,
            "CLIENT_LIST\t1/16\tfd99::2\t\t\t2321\t1974\t(date)\t1795348612\tUNDEF\t3\t0\tAES-256-GCM",
            "CLIENT_LIST\tUNDEF\tfd99::3\t\t\t0\t0\t2026-11-22 11:56:52\t1795348612\tUNDEF\t4\t0\t",
            "HEADER\tROUTING_TABLE\tVirtual Address\tCommon Name\tReal Address\tLast Ref\tLast Ref (time_t)",
            "ROUTING_TABLE\tfa:6b:c1:71:27:23@0\t1/16\tfd99::2\t2026-11-22 11:56:52\t1795348612",
            "GLOBAL_STATS\tdco_enabled\t0",
            "END",
        ]
        status = Status((ClientStatus(3, "1/16", 4295), ClientStatus(4, "UNDEF", 0)))
        self.assertEqual(self.read(*table), [status])
        self.assertEqual(self.read(*table, *table), [status, status])
        self.assertEqual(self.read(table[0], "END"), [Status(())])
        self.assertEqual(self.read("END", table[3]), [])

    @given(_LINES)
    def test_any_lines(self, lines: list[str]) -> None:
        """Any line is understood or ignored."""
        self.read(*lines)
