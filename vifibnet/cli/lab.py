"""``vifibnet lab``: a whole network on this machine, in network namespaces."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from vifibnet.errors import BadInput
from vifibnet.lab.children import Reactor
from vifibnet.lab.demo import Demo
from vifibnet.lab.faults import crash
from vifibnet.lab.network import Lab, check_machine
from vifibnet.lab.report import LabReport
from vifibnet.lab.screen import Screen
from vifibnet.lab.settings import PROTOCOLS, LabSettings
from vifibnet.lab.table import node_table
from vifibnet.lab.teardown import down

Action = Callable[[Reactor, argparse.Namespace, Screen], Coroutine[Deferred[Any], Any, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the lab's own subcommands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        default = "demo" if name == "demo" else "lab"
        action.add_argument("--name", default=default, help="which lab (%(default)s); several can be up")
        return action

    _add_settings(add("up", "start a network and stay until Ctrl-C"), nodes=6, hello=1.0)
    _add_settings(add("demo", "start a network, break it in two ways, watch it go on"), nodes=6, hello=0.5)
    for name, summary in (("down", "remove a network, also what is left of one that crashed"),
                          ("status", "say how the nodes are and whether all reach all")):  # fmt: skip
        action = add(name, summary)
        action.add_argument("--dir", type=Path, help=argparse.SUPPRESS)
        if name == "status":
            action.add_argument("--json", action="store_true", help="as a JSON document")
    for name, summary in (("cut", "silently drop all underlay traffic between two hosts"),
                          ("heal", "undo a cut")):  # fmt: skip
        add(name, summary).add_argument("hosts", nargs=2, metavar="HOST")
    for name, summary in (("start", "start the node of a host"),
                          ("stop", "stop the node of a host (SIGTERM)"),
                          ("kill", "kill the node of a host (SIGKILL); what it has started carries on"),
                          ("crash", "kill all of it, as when the machine loses power")):  # fmt: skip
        add(name, summary).add_argument("hosts", nargs=1, metavar="HOST")
    add("add", "add a host that joins the running network")
    execute = add("exec", "run a command on a host: exec h2 -- ip -6 route")
    execute.add_argument("host", metavar="HOST")
    execute.add_argument("command_line", nargs=argparse.REMAINDER, metavar="-- COMMAND")


def _add_settings(parser: argparse.ArgumentParser, nodes: int, hello: float) -> None:
    """Add what a new lab can be told."""
    add = parser.add_argument
    add("--nodes", type=int, default=nodes, metavar="N", help="how many nodes (%(default)s)")
    add(
        "--connection-count",
        type=int,
        default=2,
        metavar="N",
        help="how many openvpn clients each node has at most (%(default)s)",
    )
    add(
        "--hello",
        type=float,
        default=hello,
        metavar="SECONDS",
        help="babel's hello interval; an outage lasts about three of them (%(default)g)",
    )
    add("--dir", type=Path, metavar="DIR", help="new directory for files and logs (/run/vifibnet-lab/NAME)")
    add("--proto", choices=PROTOCOLS, default="udp", help="what the tunnels run over (%(default)s)")
    add("--mtu", type=int, default=1400, metavar="BYTES", help="packet size inside the tunnels (%(default)s)")
    add("--network", default="2001:db8:42::/48", metavar="PREFIX", help="the VPN's network (%(default)s)")
    add("--underlay", type=int, choices=(4, 6), default=4, help="IP version between hosts (%(default)s)")
    add(
        "--lan",
        type=_hosts,
        default=(),
        metavar="h1,h2",
        help="join these hosts by a LAN, on which they look for each other (--interface)",
    )
    add("--node-option", action="append", default=[], metavar="'NAME VALUE'",
        help="one more option for every node, as in a file of its options; repeatable")  # fmt: skip
    add("--timeout", type=float, default=90.0, metavar="SECONDS", help="how long all may need to reach all")
    if parser.prog.endswith("up"):
        add("--json", action="store_true", help="print a JSON document instead of a table")
        add("--detach", action="store_true", help="leave the network up and return")


def _hosts(text: str) -> tuple[int, ...]:
    """Read ``h1,h2``."""
    names = text.split(",")
    if not all(name[:1] == "h" and name[1:].isdecimal() for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} names no hosts; give some such as h1,h2")
    return tuple(int(name[1:]) for name in names)


def settings(args: argparse.Namespace) -> LabSettings:
    """Make a lab's settings of the options."""
    return LabSettings(
        name=args.name,
        directory=args.dir,
        nodes=args.nodes,
        connection_count=args.connection_count,
        hello=args.hello,
        network=args.network,
        proto=args.proto,
        mtu=args.mtu,
        underlay=args.underlay,
        lan=args.lan,
        node_options=tuple(args.node_option),
    )


async def run(reactor: Reactor, args: argparse.Namespace) -> int:
    """Do what the subcommand says; return the exit status. Raises VifibnetError."""
    screen = Screen(sys.stderr if getattr(args, "json", False) else sys.stdout, reactor.seconds)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # A terminal that is closed must not leave a network behind either.
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(reactor.stop))
    try:
        return await ACTIONS[args.action](reactor, args, screen)
    finally:
        screen.clear()


async def _up(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    wanted = settings(args)
    lab = await Lab.up(reactor, wanted, screen.progress)
    staying = False
    try:
        reach = await lab.arrive(timeout=args.timeout)
        report = await lab.reports(not reach.missing)
        _show(report, args.json, screen)
        if reach.missing:
            pairs = ", ".join(f"{source} → {target}" for source, target in reach.missing[:12])
            screen.say(f"{len(reach.missing)} pairs do not reach each other: {pairs}.")
            return 1
        if args.detach:
            staying = True
            return 0
        screen.say(f"The network {wanted.name} stays until Ctrl-C. Try: vifibnet lab exec h1 -- ip -6 route")
        await Deferred[None]()
    finally:
        if not staying:
            screen.progress("going down")
            await lab.down()
    return 0


async def _demo(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    await Demo(reactor, settings(args), screen).run()
    return 0


async def _down(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    check_machine()
    screen.progress("going down")
    if not await down(reactor, args.name):
        raise BadInput("--name", f"there is no lab named {args.name}", "nothing had to be removed")
    return 0


async def _status(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    lab = Lab.open(reactor, args.name)
    reach = await lab.reach(timeout=2.0)
    stopped = [name for name in lab.hosts if not lab.running(name)]
    report = await lab.reports(not reach.missing and not stopped)
    _show(report, args.json, screen)
    if reach.missing and not args.json:
        pairs = ", ".join(f"{source} → {target}" for source, target in reach.missing[:12])
        screen.say(f"{len(reach.missing)} pairs do not reach each other: {pairs}.")
    return 0


def _show(report: LabReport, as_json: bool, screen: Screen) -> None:
    """Print a report."""
    screen.clear()
    if as_json:
        print(report.to_json(), flush=True)
        return
    screen.say(*node_table(report, screen.width))
    if report.cuts:
        pairs = sorted(" – ".join(sorted(pair)) for pair in report.cuts)
        screen.say("", f"The underlay is cut: {', '.join(pairs)}")


async def _exec(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    command = args.command_line[1:] if args.command_line[:1] == ["--"] else args.command_line
    if not command:
        raise BadInput("exec", "no command is given", f"try vifibnet lab exec {args.host} -- ip address")
    argv = Lab.open(reactor, args.name).inside(args.host, command)
    screen.clear()
    # Python ignores this one; the command must not inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(argv[0], argv)  # noqa: S606  the command takes our place, with our terminal


def _on_hosts(does: Callable[..., Awaitable[None]]) -> Action:
    """The subcommand that does one thing to one or two hosts."""

    async def action(reactor: Reactor, args: argparse.Namespace, _screen: Screen) -> int:
        check_machine()
        await does(Lab.open(reactor, args.name), *args.hosts)
        return 0

    return action


async def _add(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    check_machine()
    lab = Lab.open(reactor, args.name)
    screen.progress("enrolling one more host")
    return await _joined(lab, await lab.add(), screen)


async def _start(reactor: Reactor, args: argparse.Namespace, screen: Screen) -> int:
    check_machine()
    lab = Lab.open(reactor, args.name)
    await lab.start(args.hosts[0])
    return await _joined(lab, args.hosts[0], screen)


async def _joined(lab: Lab, name: str, screen: Screen) -> int:
    """Wait until a node that was just started has reached the others; say when that was."""
    screen.progress(f"{name} looks for the others")
    await lab.all_reached(timeout=30)
    host = lab.host(name)
    screen.say(
        f"{name} ({host.address}) had reached all others {host.seconds_to_all or 0:.2f} s after its start."
    )
    return 0


ACTIONS: dict[str, Action] = {
    "up": _up,
    "demo": _demo,
    "down": _down,
    "status": _status,
    "exec": _exec,
    "cut": _on_hosts(Lab.cut),
    "heal": _on_hosts(Lab.heal),
    "start": _start,
    "stop": _on_hosts(Lab.stop),
    "kill": _on_hosts(Lab.kill),
    "crash": _on_hosts(crash),
    "add": _add,
}
"""What each subcommand does."""
