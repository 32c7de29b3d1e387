"""What can be seen to be wrong before anything is started. Nothing is written but the lock's
file, and a key whose replacement a crash has interrupted."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from vifibnet.errors import BadInput
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node import orphans
from vifibnet.node.authorities import ca_directory_of, vouched_for
from vifibnet.node.config import NodeConfig
from vifibnet.node.lock import Lock, check_state_path
from vifibnet.node.openvpn import OpenVPNSettings
from vifibnet.node.revocations import directory_of
from vifibnet.node.supervisor import ENVIRONMENT
from vifibnet.pki.certificates import Identity
from vifibnet.pki.freshkey import settle
from vifibnet.store.peers import PeerStore
from vifibnet.wire import openvpn as wire
from vifibnet.wire.babeld import PORT

PROGRAMS = {"openvpn": "openvpn", "babeld": "babeld", "ip": "iproute2"}
"""What a node runs, and the Debian package that has it."""

SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where these programs are, though not everybody who became root has them on PATH."""

CAP_NET_ADMIN = 12


def check(config: NodeConfig, now: datetime | None = None) -> Identity:
    """Look at everything; return who we are. Raises BadInput at the first thing that is wrong."""
    check_programs(PROGRAMS)
    check_privilege()
    check_directory("--state", config.state)
    check_directory("--log", config.log)
    check_state_path(config.state)
    # Before the files, which a node that runs may be replacing, and before the ports, which it has. Held to
    # the end: what another start began meanwhile would be taken for what a killed node has left.
    lock = Lock(config.state)
    try:
        return _check_alone(config, now or datetime.now(UTC))
    finally:
        lock.release()


def _check_alone(config: NodeConfig, now: datetime) -> Identity:
    """The rest, as long as nobody else may start a node here."""
    settle(config.cert, config.key)
    renewing = config.server is not None
    identity = Identity.load(
        config.ca,
        config.cert,
        config.key,
        now,
        renewing=renewing,
        vouched=partial(vouched_for, config.state),
    )
    PeerStore.open(config.peers_db, identity.network).close()
    check_dh(config.dh)
    if config.openvpn_args:
        problem = refusal(openvpn_settings(config))
        if problem is not None:
            raise refused(problem)
    # There is no node, but what one has left may still run, and have its ports: see vacate.
    if not orphans.are_there(config.state):
        check_listening(config)
    return identity


def vacate(config: NodeConfig) -> None:
    """End what a killed node has left running, as late as can be: until then it carries traffic. Raises
    BadInput when somebody else has the ports that we need from now on.

    Blocks for as long as these processes take to end, mostly some hundredths of a second: the node has the
    lock, and does nothing yet.
    """
    if orphans.end(config.state):
        check_listening(config)


def check_listening(config: NodeConfig) -> None:
    """Our servers and babeld can listen."""
    check_ports(config.pp)
    check_babel_port()


def refused(problem: str) -> BadInput:
    """The error for a ``refusal``."""
    return BadInput("-- openvpn_args", f"openvpn refuses them ({problem})", "see man openvpn")


def openvpn_settings(config: NodeConfig) -> OpenVPNSettings:
    """What the openvpn processes of this node have in common."""
    return OpenVPNSettings(
        ca=ca_directory_of(config.state),
        cert=config.cert,
        key=config.key,
        state=config.state,
        log=config.log,
        hello=config.hello,
        mtu=config.mtu,
        verbose=config.verbose,
        extra=config.openvpn_args,
        max_clients=config.max_clients,
        revoked=directory_of(config.state),
    )


def refusal(settings: OpenVPNSettings) -> str | None:
    """What speaks against the operator's extra arguments: openvpn's own words, or None.

    Blocks some 20 ms: for checks before the reactor runs.
    """
    for argument in settings.extra:
        if argument in wire.OURS:
            return f"{argument} is set by vifibnet itself"
    nowhere = Endpoint("127.0.0.1", 9, "udp")
    # Nobody listens on the management socket, so that a command line that is right ends there.
    # What the node makes when it starts is not there yet; any directory will do.
    elsewhere = replace(settings, state=Path(os.devnull), verbose=0, ca=settings.log, revoked=None)
    for command in (
        wire.server_command(elsewhere, tap="vifs0", port=9, proto="udp"),
        wire.client_command(elsewhere, tap="vifc0", peer=Prefix(0, 1), endpoints=[nowhere]),
    ):
        try:
            answer = subprocess.run(
                command,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=5,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return "it does not come to an end with them"
        if "Options error:" in answer.stdout:
            return wire.complaint(answer.stdout.splitlines())
    return None


def check_programs(programs: dict[str, str]) -> None:
    """All programs are there. Puts the system's directories behind PATH where they are not on it."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*path, *(d for d in SYSTEM_DIRECTORIES if d not in path)])
    for program, package in programs.items():
        if shutil.which(program) is None:
            raise BadInput(program, "this program is missing", f"install it: apt-get install {package}")


def check_privilege(status: Path = Path("/proc/self/status"), tun: Path = Path("/dev/net/tun")) -> None:
    """We may make interfaces and routes, and openvpn may open its device."""
    remedy = "run it as root"
    if os.geteuid() != 0:
        raise BadInput("twistd vifibnet-node", "does not have enough privilege", remedy)
    with contextlib.suppress(OSError):
        [capabilities] = [line for line in status.read_text().splitlines() if line.startswith("CapEff:")]
        if not int(capabilities.split()[1], 16) >> CAP_NET_ADMIN & 1:
            raise BadInput(
                "twistd vifibnet-node",
                "may not change the network (it has no CAP_NET_ADMIN)",
                f"{remedy}, outside of a container or in one with that capability",
            )
    if not tun.exists():
        raise BadInput(tun, "is not there", "load the kernel's module: modprobe tun")


def check_directory(option: str, path: Path) -> None:
    """The directory is there and can be written to."""
    if not path.is_dir():
        problem = "is no directory" if path.exists() else "does not exist"
        raise BadInput(f"{option} {path}", problem, "give a directory that exists (mkdir makes one)")
    if not _can_write(path):
        raise BadInput(f"{option} {path}", "cannot be written to", "give a directory where you may write")


def _can_write(path: Path) -> bool:
    """Whether a file can be made there, tried with one that never gets a name."""
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC))
    except OSError as error:
        unsupported = error.errno in (errno.EOPNOTSUPP, errno.EISDIR)
        return unsupported and os.access(path, os.W_OK | os.X_OK)
    return True


def check_dh(path: Path | None) -> None:
    """The file is there; openvpn is not given it, but whoever names one should not be mistaken in it."""
    if path is not None and not path.is_file():
        raise BadInput(f"--dh {path}", "is no file", "give a file, or none: openvpn 2.6 needs no such file")


def check_ports(servers: Sequence[tuple[int, str]]) -> None:
    """Nobody else listens where our servers will."""
    for port, proto in servers:
        kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
        if not can_listen(port, kind):
            raise BadInput(f"--pp {port} {proto}", "this port is in use", "give another or stop who uses it")


def check_babel_port() -> None:
    """No babeld of the system's runs here."""
    if not can_listen(PORT, socket.SOCK_DGRAM):
        raise BadInput(
            f"UDP port {PORT}",
            "is in use, probably by another babeld",
            "stop that first: systemctl disable --now babeld",
        )


def can_listen(port: int, kind: socket.SocketKind) -> bool:
    """Whether the port is free, for IPv6 and IPv4 at once, as openvpn's servers listen."""
    try:
        with socket.socket(socket.AF_INET6, kind) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if kind == socket.SOCK_STREAM:
                # Connections of a server that is gone do not keep a new one from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("::", port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True
