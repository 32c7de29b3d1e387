"""``twistd vifibnet-registry``: the options, checked before anything is started or written."""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from twisted.application.service import IService
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString

from vifibnet.cli.options import TwistdArguments, number, port_number
from vifibnet.errors import BadEmail, BadInput
from vifibnet.model.addresses import Network
from vifibnet.pki.authority import NODE_DAYS, Authority
from vifibnet.registry.core import check_email
from vifibnet.registry.listen import open_sockets
from vifibnet.registry.service import RegistryConfig, RegistryService
from vifibnet.store.database import IN_MEMORY
from vifibnet.store.lock import DatabaseLock
from vifibnet.store.registry import GRACE, RegistryStore
from vifibnet.wire.admin import admin_socket
from vifibnet.wire.endpoints import is_host

DAY = 24 * 3600.0
"""Seconds."""


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
            help="certificate authority; its serial number holds the network",
        )
        add("--key", metavar="PATH", required=True, help="the authority's private key")
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

    def validate(self, namespace: argparse.Namespace, rest: Sequence[str]) -> RegistryConfig:
        """Check everything that can be checked now. Raises BadInput."""
        if rest:
            raise BadInput(rest[0], "unexpected argument", "the registry takes nothing behind --")
        now = datetime.now(UTC)
        authority = Authority.load(Path(namespace.ca), Path(namespace.key), now)
        names = tuple(dict.fromkeys(namespace.name))
        authority.server_certificate(names, now)
        if not is_host(namespace.mailhost):
            raise BadInput(
                f"--mailhost {namespace.mailhost}",
                "is neither an IP address nor a name",
                "give a mail server",
            )
        config = RegistryConfig(
            port=namespace.port,
            db=namespace.db if namespace.db in IN_MEMORY else str(Path(namespace.db).absolute()),
            authority=authority,
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
        )
        _check_ports(config)
        _check_database(config.db, authority.network)
        return config


def makeService(options: Options) -> IService:  # noqa: N802
    """What twistd runs."""
    from twisted.internet import reactor

    return RegistryService(reactor, options.config)


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
        return None if db in IN_MEMORY else str(admin_socket(Path(db)).absolute())
    path = Path(option).absolute()
    if not path.parent.is_dir():
        raise BadInput(
            f"--admin-socket {option}", f"{path.parent} is no directory", "give a path in one that exists"
        )
    return str(path)


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
