"""``twistd vifibnet-node``: the options of a node, and the service made of them."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from vifibnet.cli.hangup import announce, heeding
from vifibnet.cli.options import TwistdArguments, integer, number, port_number
from vifibnet.errors import BadEndpoints, BadInput
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.parameters import PARAMETERS
from vifibnet.node.config import DEFAULT_PORT, SERVER_PROTOCOLS, STATE, NodeConfig
from vifibnet.node.preflight import check, openvpn_settings, refusal, refused
from vifibnet.node.reload import reload
from vifibnet.wire.endpoints import is_host, parse_endpoint
from vifibnet.wire.peertalk import PORT

if TYPE_CHECKING:
    from twisted.application.service import IService

    from vifibnet.node.service import NodeService
    from vifibnet.pki.certificates import Identity

log = Logger()

_duration = number(0.1, 10_000_000, "seconds")


def _add_parameter(parser: argparse.ArgumentParser, name: str, metavar: str, meaning: str) -> None:
    """An option for one of the network's parameters; where it is not given, the network's value counts."""
    of = PARAMETERS[name]
    kind = integer(int(of.low), int(of.high)) if of.kind is int else number(of.low, of.high, of.unit)
    default = f" ({of.default:g})" if isinstance(of.default, float | int) else ""
    parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=meaning + default)


class Options(TwistdArguments[NodeConfig]):
    """All options of the manual's VIFIBNET section, and those of today."""

    name = "vifibnet-node"
    description = (
        "Keep this machine connected to a vifibnet network. @FILE reads options from a file, one a line; "
        "what stands behind -- goes to every openvpn as it is. Some options are parameters of the network: "
        "vifibnet set, on the registry's machine, sets them for all nodes where they are not given."
    )
    identity: Identity
    """Who we are; there after ``parseOptions``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add them in the manual's order."""
        add, parameter = parser.add_argument, partial(_add_parameter, parser)
        # fmt: off
        add("--ip", nargs=3, action="append", default=[], metavar=("ADDRESS", "PORT", "PROTO"),
            help="advertise this to other nodes instead of what is found out; repeatable")
        add("-i", "--interface", action="append", default=[],
            help="look for other nodes on the local network behind this interface; repeatable")
        add("--peers-db-refresh", type=_duration, default=3600.0, metavar="SECONDS",
            help="how often the registry is asked for peers (%(default)g)")
        add("-l", "--log", type=Path, default=Path("/var/log"), metavar="DIR",
            help="directory of the log files (%(default)s)")
        add("-s", "--state", type=Path, default=STATE, metavar="DIR",
            help="directory of peers.db and of babeld's state (%(default)s)")
        add("-v", "--verbose", type=integer(0, 5), default=0, metavar="LEVEL",
            help="0 to 5, also for openvpn and babeld (%(default)s)")
        add("--server", metavar="ADDRESS", help="address or name of the registry; none: known peers only")
        add("--server-port", type=port_number, metavar="PORT", help="port of the registry")
        parameter("hello", "SECONDS",
            "babel's hello interval; a dead link is noticed after three to four of them")
        parameter("heartbeat", "SECONDS",
            "between two signs of life over each tunnel; it is dead when two are missing")
        parameter("update-interval", "SECONDS",
            "between two announcements of all routes (four hellos, but 2 to 20 s)")
        add("-w", "--wireless", action="store_true", help="treat all interfaces as wireless ones")
        add("--pp", nargs=2, action="append", metavar=("PORT", "PROTO"),
            help="run an openvpn server on this port, PROTO udp or tcp-server; repeatable (1194 udp)")
        parameter("tunnel-refresh", "SECONDS", "how often the worst tunnels are replaced")
        add("--dh", metavar="FILE", help="accepted as in 2012; openvpn 2.6 needs no such file")
        add("--ca", type=Path, required=True, metavar="FILE", help="the network's certificate authority")
        add("--cert", type=Path, required=True, metavar="FILE", help="this node's certificate")
        add("--key", type=Path, metavar="FILE", help="its key; may stand behind -- as well")
        add("--fresh-key", action="store_true",
            help="make a new key for every renewal of the certificate")
        parameter("connection-count", "NUMBER", "how many openvpn clients run at most")
        parameter("max-clients", "NUMBER", "how many peers each openvpn server takes at most")
        parameter("refresh-rate", "RATIO", "which part of the tunnels a refresh replaces, 0 to 1")
        parameter("mtu", "BYTES", "largest packet inside the tunnels; the same in the whole network")
        add("--peer-port", type=integer(0, 65535), default=PORT, metavar="PORT",
            help="TCP port on which nodes talk to each other over the network itself, the same on all; "
            "0: not at all (%(default)s)")
        add("--main-interface", default="lo", metavar="INTERFACE",
            help="where this node's address goes; made as a dummy where it does not exist (%(default)s)")
        # fmt: on

    def validate(self, namespace: argparse.Namespace, rest: Sequence[str]) -> NodeConfig:
        """Make the config and look whether this machine can run it."""
        config = node_config(namespace, rest)
        with _no_collection():
            # It takes a while. What a killed node has left carries traffic until the check.
            import_module("vifibnet.node.service")
        self.identity = check(config)
        return config

    def make(self, namespace: argparse.Namespace, rest: Sequence[str]) -> NodeConfig:
        """Make the config."""
        return node_config(namespace, rest)


def node_config(args: argparse.Namespace, rest: Sequence[str]) -> NodeConfig:
    """Make the config of the parsed options and of openvpn's. Raises BadInput."""
    key, openvpn_args = _key(args.key, rest)
    if (args.server is None) != (args.server_port is None):
        given, missing = ("--server", "--server-port") if args.server else ("--server-port", "--server")
        raise BadInput(given, f"given without {missing}", "give both, or none to live from peers.db alone")
    if args.server is not None and not is_host(args.server):
        raise BadInput("--server", f"{args.server!r} is no address", "give an IP address or a name")
    for option, names in (("--interface", args.interface), ("--main-interface", [args.main_interface])):
        for name in names:
            _check_interface(option, name)
    if args.main_interface in args.interface:
        raise BadInput("--main-interface", "also given as --interface", "name another interface")
    parameters = {name: getattr(args, each.field, None) for name, each in PARAMETERS.items()}
    said = {name: value for name, value in parameters.items() if value is not None}
    return NodeConfig(
        ca=args.ca.absolute(),
        cert=args.cert.absolute(),
        key=key.absolute(),
        ip=tuple(_endpoint(words) for words in args.ip),
        interfaces=tuple(dict.fromkeys(args.interface)),
        peers_db_refresh=args.peers_db_refresh,
        log=args.log.absolute(),
        state=args.state.absolute(),
        verbose=args.verbose,
        server=args.server,
        server_port=args.server_port or 0,
        wireless=args.wireless,
        pp=_servers(args.pp),
        dh=None if args.dh in (None, "none") else Path(args.dh).absolute(),
        openvpn_args=openvpn_args,
        main_interface=args.main_interface,
        fresh_key=args.fresh_key,
        peer_port=args.peer_port,
        given=frozenset(said),
        **{PARAMETERS[name].field: value for name, value in said.items()},
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """What is imported stays: to look for garbage in it takes tens of milliseconds each time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def makeService(options: Options) -> IService:  # noqa: N802
    """Put the node together; twistd calls this."""
    with _no_collection():
        from random import SystemRandom

        from twisted.internet import reactor

        from vifibnet.node.service import NodeService
        from vifibnet.node.steady import steady

        reactor.seconds = steady()  # type: ignore[method-assign]
        node = NodeService(reactor, SystemRandom(), options.config, options.identity)
        node.give_up = partial(give_up, reactor)
    return heeding(reactor, node, partial(reread, options, node))


def give_up(reactor: Any) -> None:
    """End the process in order, with exit status 1, after which systemd starts another."""
    # twistd itself ends with 0 when the reactor is stopped. Nothing that matters is left to be done by then.
    atexit.register(os._exit, 1)
    reactor.callWhenRunning(reactor.stop)


async def reread(
    options: Options, node: NodeService, in_thread: Callable[..., Awaitable[str | None]] = deferToThread
) -> None:
    """Read the options again; the node obeys what takes no restart. Raises VifibnetError."""
    found = reload(options.config, options.reread())
    if found.config.openvpn_args != options.config.openvpn_args:
        problem = await in_thread(refusal, openvpn_settings(found.config))
        if problem is not None:
            raise refused(problem)
    options.config = found.config
    announce(log, found.changed, found.refused, "the node")
    node.obey(found.config)


def _endpoint(words: Sequence[str]) -> Endpoint:
    """Read one ``--ip``."""
    try:
        return parse_endpoint(",".join(words))
    except BadEndpoints as error:
        problem = str(error.fields["problem"])
        raise BadInput("--ip", f"{' '.join(words)!r}: {problem}", "give e.g. 192.0.2.1 1194 udp") from None


def _servers(pairs: Sequence[Sequence[str]] | None) -> tuple[tuple[int, str], ...]:
    """Read all ``--pp``."""
    if pairs is None:
        return (DEFAULT_PORT,)
    servers = []
    for port, proto in pairs:
        try:
            number = port_number(port)
        except argparse.ArgumentTypeError as error:
            problem, _, remedy = str(error).partition("; ")
            raise BadInput("--pp", problem, remedy) from None
        if proto not in SERVER_PROTOCOLS:
            remedy = f"give {' or '.join(SERVER_PROTOCOLS)}"
            raise BadInput("--pp", f"{proto!r} is no protocol for a server", remedy)
        if (number, proto) in servers:
            raise BadInput("--pp", f"{number} {proto} is given twice", "give each only once")
        servers.append((number, proto))
    return tuple(servers)


def _check_interface(option: str, name: str) -> None:
    """An interface that is not there yet may come; one that Linux would not allow is a mistake."""
    if not re.fullmatch(r"[^\s/:]{1,15}", name) or name in (".", "..") or name.startswith("-"):
        raise BadInput(option, f"{name!r} is no name of an interface", "ip link lists those there are")


def _key(option: Path | None, rest: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """Take the key from ``--key`` or, as in 2012, out of the openvpn arguments."""
    words = list(rest)
    while "--key" in words:
        at = words.index("--key")
        if at + 1 == len(words):
            raise BadInput("-- --key", "no file follows", "give the node's key file")
        found = Path(words[at + 1])
        if option is not None and option.absolute() != found.absolute():
            raise BadInput("--key", f"both {option} and {found} are given", "give one of them")
        option = found
        del words[at : at + 2]
    if option is None:
        raise BadInput("--key", "missing", "give the key file that vifibnet setup made (cert.key)")
    return option, tuple(words)
