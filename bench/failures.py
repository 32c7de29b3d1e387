"""The failures of ``bench.failover``: what each breaks, whom it watches meanwhile, how it is mended."""

from __future__ import annotations

import math
import sys
from functools import partial

from bench.stage import PATIENCE, Stage
from vifibnet.lab import faults
from vifibnet.lab.children import sleep
from vifibnet.lab.graph import connected, spare_names
from vifibnet.lab.pulse import Verdict


async def control(stage: Stage) -> Verdict:
    """Nothing fails: what the probe itself loses."""
    scene = await stage.pair()
    return await stage.watch(scene.client, scene.server, partial(sleep, stage.reactor, 0))


async def path_cut(stage: Stage) -> Verdict:
    """The direct underlay path drops everything silently."""
    scene = await stage.pair()
    cut = partial(stage.lab.cut, scene.client, scene.server)
    try:
        return await stage.watch(scene.client, scene.server, cut)
    finally:
        await stage.mend()


async def client_killed(stage: Stage) -> Verdict:
    """The tunnel's openvpn client is killed with -9."""
    scene = await stage.pair()

    async def fail() -> None:
        faults.kill_child(stage.lab, scene.client, "openvpn", "--client", scene.tap)

    return await stage.watch(scene.client, scene.server, fail)


async def server_killed(stage: Stage) -> Verdict:
    """The openvpn server that the tunnel ends at is killed with -9."""
    scene = await stage.pair()

    async def fail() -> None:
        faults.kill_child(stage.lab, scene.server, "openvpn", "--mode", "server")

    return await stage.watch(scene.client, scene.server, fail)


async def forwarder_dark(stage: Stage) -> Verdict:
    """The host in between loses power: all its traffic is dropped."""
    source, middle, target = await stage.over()
    try:
        return await stage.watch(source, target, partial(stage.lab.underlay.darken, [stage.index(middle)]))
    finally:
        await stage.mend()


async def babeld_killed(stage: Stage) -> Verdict:
    """babeld is killed with -9 on one end."""
    scene = await stage.pair()
    victim = stage.rng.choice((scene.client, scene.server))

    async def fail() -> None:
        faults.kill_child(stage.lab, victim, "babeld")

    return await stage.watch(scene.client, scene.server, fail)


async def babeld_between_killed(stage: Stage) -> Verdict:
    """babeld is killed with -9 on the host in between."""
    source, middle, target = await stage.over()

    async def fail() -> None:
        faults.kill_child(stage.lab, middle, "babeld")

    return await stage.watch(source, target, fail)


async def node_killed(stage: Stage) -> Verdict:
    """The node daemon is killed with -9 on one end, and started again at once."""
    scene = await stage.pair()
    victim, other = scene.client, scene.server
    if stage.rng.random() < 0.5:
        victim, other = other, victim

    before = await stage.lab.report(victim)

    async def fail() -> None:
        began = stage.reactor.seconds()
        await stage.lab.kill(victim)
        await stage.lab.start(victim)
        await stage.back(victim, before, began)

    return await stage.watch(other, victim, fail)


async def node_between_killed(stage: Stage) -> Verdict:
    """The node daemon in between is killed with -9, and started again when the ends have another way."""
    source, middle, target = await stage.over()
    before = await stage.lab.report(middle)
    try:
        return await stage.watch(source, target, partial(stage.lab.kill, middle))
    finally:
        began = stage.reactor.seconds()
        await stage.lab.start(middle)
        await stage.back(middle, before, began)


async def registry_killed(stage: Stage) -> Verdict:
    """The registry is killed with -9, and stays away for the rest of the run."""
    lab = stage.lab
    if lab.enrolment.registry.pid not in lab.underlay.processes():
        await lab.enrolment.start_registry()
        await sleep(stage.reactor, 3)
    scene = await stage.pair()
    return await stage.watch(scene.client, scene.server, partial(faults.kill_registry, lab))


async def address_changes(stage: Stage, client: bool) -> Verdict:
    """The underlay address of one end changes: the ``client``'s, or the server's."""
    scene = await stage.pair()
    moving = scene.client if client else scene.server
    try:
        return await stage.watch(scene.client, scene.server, partial(faults.move, stage.lab, moving))
    finally:
        # Nobody shall look for it in vain in the runs that follow.
        await faults.move_back(stage.lab, moving)


async def sleepers(stage: Stage, seconds: float, most: int = 3) -> list[Verdict]:
    """Every process of a host is stopped for ``seconds``; counted from its waking.

    To save time, up to ``most`` hosts sleep at once, without whom the others are connected. They wake one
    after another, each pinged by somebody awake whom it had a tunnel with.
    """
    report = await stage.whole()
    names, edges = list(stage.lab.hosts), report.edges
    asleep: dict[str, list[int]] = {}
    while len(asleep) < most:
        awake = [name for name in names if name not in asleep]
        spare = [name for name in spare_names(awake, edges) if name != "h0"]
        if not spare:
            break
        victim = stage.rng.choice(spare)
        asleep[victim] = faults.freeze(stage.lab, victim)
    try:
        await sleep(stage.reactor, seconds)
        found = []
        for victim in list(asleep):
            awake = [name for name in names if name not in asleep]
            peers = [name for name in awake if frozenset((name, victim)) in edges]
            observer = stage.rng.choice(peers or awake)
            found.append(await _wake(stage, victim, observer, asleep[victim]))
            del asleep[victim]
        return found
    finally:
        for pids in asleep.values():
            faults.thaw(pids)


async def _wake(stage: Stage, asleep: str, awake: str, pids: list[int]) -> Verdict:
    async def fail() -> None:
        faults.thaw(pids)

    return await stage.watch(awake, asleep, fail, answered=False)


async def half_vanishes(stage: Stage) -> Verdict:
    """Half of all hosts go dark at once, and run nothing any more, which would burn the survivors' cores;
    until each survivor has reached each."""
    report = await stage.whole()
    lab = stage.lab
    names = list(lab.hosts)
    # Those who were away in the run before have just come back: that is no part of this one.
    await stage.forgiven(*names)
    victims = stage.rng.sample(names, len(names) // 2)
    survivors = [name for name in names if name not in victims]
    left = [edge for edge in report.edges if edge <= set(survivors)]
    whole_still = connected(survivors, left)
    if stage.trace is not None:
        await stage.trace.begin(lab, survivors)
    began = stage.reactor.seconds()
    await lab.underlay.darken(stage.index(name) for name in victims)
    stopped = [pid for name in victims for pid in faults.freeze(lab, name)]
    try:
        took = stage.reactor.seconds() - began
        reach = await lab.reach(survivors, survivors, timeout=PATIENCE, interval=0.05)
    finally:
        faults.thaw(stopped)
    seconds = math.inf if reach.missing else took + reach.longest
    left_over = "still" if whole_still else "no longer"
    title = f"{len(survivors)} survivors, {left_over} connected: {seconds:.2f} s"
    print(title, file=sys.stderr)
    if stage.trace is not None:
        await stage.trace.end(f"{title}; {' '.join(survivors)}; {reach.seconds}", began)
    await stage.mend()
    return Verdict(0, seconds, seconds)


async def lossy(stage: Stage) -> Verdict:
    """One path loses 20 % of its packets at random, both ways."""
    scene = await stage.pair()
    client, server = stage.index(scene.client), stage.index(scene.server)
    try:
        return await stage.watch(
            scene.client, scene.server, partial(stage.lab.underlay.lose, client, server, 20), settled=3.0
        )
    finally:
        await stage.mend()
        await stage.forgiven(scene.client, scene.server)


async def one_way(stage: Stage, upstream: bool) -> Verdict:
    """Only one direction of the path is cut: what the client sends (``upstream``) or the server."""
    scene = await stage.pair()
    ends = [stage.index(scene.client), stage.index(scene.server)]
    if not upstream:
        ends.reverse()
    try:
        return await stage.watch(scene.client, scene.server, partial(stage.lab.underlay.cut_one_way, *ends))
    finally:
        await stage.mend()
