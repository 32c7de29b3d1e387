"""``twistd vifibnet-registry``: the options, checked before anything is started or written."""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.logger import Logger

from vifibnet.cli.hangup import announce, heeding
from vifibnet.cli.lost import remembered
from vifibnet.cli.options import TwistdArguments, number, port_number
from vifibnet.errors import BadEmail, BadInput
from vifibnet.model.addresses import Network
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import NODE_DAYS
from vifibnet.registry.adminsocket import SOCKET_NAME_MAX
from vifibnet.registry.core import check_email
from vifibnet.registry.listen import open_sockets
from vifibnet.registry.service import LIVE, RegistryConfig, RegistryService
from vifibnet.store.database import IN_MEMORY
from vifibnet.store.lock import DatabaseLock
from vifibnet.store.registry import GRACE, RegistryStore
from vifibnet.wire.admin import admin_socket
from vifibnet.wire.endpoints import is_host

log = Logger()

DAY = 24 * 3600.0
"""Seconds."""

_SPELT = {
    "port": "PORT",
    "db": "--db",
    "mailhost": "--mailhost",
    "mail_port": "--mail-port",
    "mail_from": "--mail-from",
    "names": "--name",
    "interfaces": "--interface",
    "plain_http": "--plain-http",
    "cert_days": "--cert-days",
    "grace": "--grace",
    "admin_socket": "--admin-socket",
}
"""What of a config may be other than it was, and how the operator spells it."""


class Options(TwistdArguments[RegistryConfig]):
    """The manual's options of the registry, and a few of today's."""

    name = "vifibnet-registry"
    description = "Hand out certificates and introduce the peers of a vifibnet network."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The arguments as the manual has them."""
        add = parser.add_argument
        add("port", metavar="PORT", type=port_number, help="port to listen on, over IPv4 and IPv6")
        add(
            "--db", metavar="PATH", required=True, help="database file, made if absent; :memory: is temporary"
        )
        add(
            "--ca",
            metavar="PATH",
            required=True,
            help="certificate authority; its serial number holds the network; vifibnet renew-ca adds one",
        )
        add("--key", metavar="PATH", required=True, help="its private key; vifibnet renew-ca may add one")
        add("--mailhost", metavar="HOST", required=True, help="mail server that sends the tokens")
        add("--mail-port", metavar="PORT", type=port_number, default=25, help="its port (default: 25)")
        add(
            "--mail-from", metavar="ADDRESS", help="sender of the mails (default: vifibnet@ this host's name)"
        )
        add(
            "--name",
            metavar="NAME",
            action="append",
            default=[],
            help="DNS name or IP address by which the registry is called, for its certificate; the first one"
            " is named in the mails (default: this host's name); repeatable",
        )
        add(
            "--interface",
            metavar="ADDRESS",
            action="append",
            default=[],
            help="listen on this address of this machine only; repeatable",
        )
        add(
            "--plain-http",
            metavar="ENDPOINT",
            action="append",
            default=[],
            help="also serve XML-RPC without TLS, e.g. to a proxy, on a Twisted endpoint such as"
            " tcp:8080:interface=127.0.0.1; repeatable",
        )

        add(
            "--cert-days",
            metavar="DAYS",
            type=number(0.0001, 36500, "days"),
            default=NODE_DAYS,
            help="how long a node's certificate lasts; nodes renew it when a third of that is left"
            " (default: %(default)g)",
        )
        add(
            "--grace",
            metavar="DAYS",
            type=number(0, 36500, "days"),
            default=GRACE / DAY,
            help="how long a node whose certificate expired may still renew it, and keeps its prefix"
            " (default: %(default)g)",
        )
        add(
            "--admin-socket",
            metavar="PATH",
            help="unix socket for vifibnet invite, nodes and the like on this machine (default: the"
            " database's path and .sock)",
        )
        add(
            "--lost-database",
            metavar="DIR",
            help="the database is lost and shall be made anew, with the nodes as they come; DIR is the state"
            " directory of any node, or the word none if nothing was ever set or revoked",
        )

    def validate(self, namespace: argparse.Namespace, rest: Sequence[str]) -> RegistryConfig:
        """Check everything that can be checked now. Raises BadInput."""
        config = self.make(namespace, rest)
        _check_ports(config)
        _check_database(config.db, config.authorities.network)
        return config

    def make(self, namespace: argparse.Namespace, rest: Sequence[str]) -> RegistryConfig:
        """Make the config, and check what can be checked also while it runs. Raises BadInput."""
        if rest:
            raise BadInput(rest[0], "unexpected argument", "the registry takes nothing behind --")
        now = datetime.now(UTC)
        authorities = Authorities.load(namespace.ca, namespace.key, now)
        names = tuple(dict.fromkeys(namespace.name))
        authorities.known(now).server_certificate(names, now)
        if not is_host(namespace.mailhost):
            raise BadInput(
                f"--mailhost {namespace.mailhost}",
                "is neither an IP address nor a name",
                "give a mail server",
            )
        return RegistryConfig(
            port=namespace.port,
            db=namespace.db if namespace.db in IN_MEMORY else str(Path(namespace.db).absolute()),
            authorities=authorities,
            mailhost=namespace.mailhost,
            mail_port=namespace.mail_port,
            mail_from=_sender(namespace.mail_from),
            server=next((name for name in names if is_host(name)), _hostname()),
            names=names,
            interfaces=tuple(dict.fromkeys(namespace.interface)),
            plain_http=tuple(namespace.plain_http),
            cert_days=namespace.cert_days,
            grace=namespace.grace * DAY,
            admin_socket=_admin_socket(namespace.admin_socket, namespace.db),
            lost=remembered(namespace.lost_database, authorities.cas),
        )


def makeService(options: Options) -> IService:  # noqa: N802
    """What twistd runs."""
    from twisted.internet import reactor

    registry = RegistryService(reactor, options.config)
    return heeding(reactor, registry, partial(reread, options, registry))


async def reread(options: Options, registry: RegistryService) -> None:
    """Read the options again; the registry obeys what takes no restart. Raises VifibnetError."""
    old, new = options.config, options.reread()
    differ = [each for each in _SPELT if getattr(old, each) != getattr(new, each)]
    changed = [each for each in differ if each in LIVE]
    options.config = replace(old, **{each: getattr(new, each) for each in changed})
    refused = tuple(_SPELT[each] for each in differ if each not in LIVE)
    announce(log, tuple(_SPELT[each] for each in changed), refused, "the registry")
    registry.obey(options.config)


def _hostname() -> str:
    """This machine's name, without asking any resolver."""
    name = socket.gethostname()
    return name if is_host(name) else "localhost"


def _sender(option: str | None) -> str:
    try:
        return check_email(option if option is not None else f"vifibnet@{_hostname()}")
    except BadEmail:
        raise BadInput(
            f"--mail-from {option}", "is no e-mail address", "give one such as a@b.example"
        ) from None


def _check_ports(config: RegistryConfig) -> None:
    """Take every port for a moment. Raises BadInput."""
    from twisted.internet import reactor

    with ExitStack() as stack:
        for opened in open_sockets(config.port, config.interfaces):
            stack.enter_context(opened)
        for description in config.plain_http:
            what = f"--plain-http {description}"
            try:
                endpoint = serverFromString(reactor, description)
                if isinstance(endpoint, TCP4ServerEndpoint | TCP6ServerEndpoint):
                    stack.enter_context(_probe(endpoint._interface, endpoint._port))
            except OSError as error:
                raise BadInput(
                    what, f"cannot listen ({error.strerror})", "give a port that is free"
                ) from None
            except Exception as error:
                # Every kind of endpoint has its own way to complain.
                problem = f"is no server endpoint ({str(error).rstrip('.') or type(error).__name__})"
                remedy = "give a Twisted server endpoint such as tcp:8080:interface=127.0.0.1"
                raise BadInput(what, problem, remedy) from None


def _probe(interface: str, port: int) -> socket.socket:
    """Listen on a port as Twisted will. Raises OSError, and OverflowError for what is no port."""
    probe = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((interface, port))
        probe.listen()
    except BaseException:
        probe.close()
        raise
    return probe


def _admin_socket(option: str | None, db: str) -> str | None:
    """The socket's absolute path; None where there is neither an option nor a file to put it beside."""
    if option is None:
        if db in IN_MEMORY:
            return None
        path = admin_socket(Path(db)).absolute()
        _check_socket_name(path, f"--db {db}")
        return str(path)
    path = Path(option).absolute()
    if not path.parent.is_dir():
        raise BadInput(
            f"--admin-socket {option}", f"{path.parent} is no directory", "give a path in one that exists"
        )
    _check_socket_name(path, f"--admin-socket {option}")
    return str(path)


def _check_socket_name(path: Path, option: str) -> None:
    """The directory's name may be long, the file's not. Raises BadInput."""
    length = len(os.fsencode(path.name))
    if length > SOCKET_NAME_MAX:
        problem = f"a unix socket's name ({path.name}) may have {SOCKET_NAME_MAX} bytes, this has {length}"
        raise BadInput(option, problem, "give a shorter name")


def _check_database(path: str, network: Network) -> None:
    """Find out whether the database can be used; one that is not there is not made yet. Raises BadInput."""
    if path in IN_MEMORY:
        return
    if Path(path).exists():
        lock = DatabaseLock(path, f"--db {path}")
        try:
            RegistryStore.open(path, network, time.time).close()
        finally:
            lock.release()
        return
    try:
        # A file without a name, which leaves nothing behind.
        with tempfile.TemporaryFile(dir=Path(path).parent):
            pass
    except OSError as error:
        problem = f"cannot be made ({error.strerror})"
        raise BadInput(f"--db {path}", problem, "give a file in a directory where you may write") from None
