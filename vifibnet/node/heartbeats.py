"""Noticing within half a second that a tunnel is dead, lossy or about to end, and making babel act on it.

Every node sends a small frame (wire.heartbeat) over each of its tunnels a few times a second. What follows
from those that come, and from those that do not, is a cost (model.liveness). It is told to both babelds: to
the other end's with our next beat, to ours by node.prompting. So babel's hello interval, which would have to
be short for that, and costs more, may be longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.model.liveness import DRAINED, INFINITY, LEAVING
from vifibnet.model.ways import Health, Way
from vifibnet.node.beatsocket import EVERYBODY, BeatSocket
from vifibnet.node.bell import Bell
from vifibnet.node.echo import Echo
from vifibnet.node.ends import Ends, Partners
from vifibnet.node.otherend import EAGER, End
from vifibnet.node.pace import CALM, KEEN, LOOK, Pace
from vifibnet.node.prompter import Prompter
from vifibnet.node.prompting import STALE, Prompting
from vifibnet.node.traffic import Traffic
from vifibnet.node.voice import Voice
from vifibnet.wire.babeld import Neighbour

BUSY = 25.0
"""A tunnel that carries so many packets a second, both ways together, is busy. babel's are some five."""

ASLEEP = 5.0
"""Two looks that are so many seconds apart mean that the machine has slept."""

RING = 0.01
"""Seconds between two looks, whoever calls for them."""


class Heartbeats(Service):
    """Sends heartbeats, judges those that come, and prompts babeld."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        own: IPv6Address | None,
        interval: float,
        partners: Callable[[], Partners],
        neighbours: Callable[[], Iterable[Neighbour]],
        routes: Callable[[], Iterable[IPv6Network]],
        elsewhere: Callable[[str, str], Mapping[Way, Sequence[IPv6Network]]],
        unused: Callable[[str, str], bool],
        covered: Callable[[str, str], bool],
        on_change: Callable[[], None],
        on_woken: Callable[[], None] = lambda: None,
        make_socket: Callable[[], BeatSocket] = BeatSocket,
        make_prompter: Callable[[IPv6Address], Prompter] = Prompter,
        traffic: Callable[[], Mapping[str, int]] | None = None,
        hello: float = 1.0,
        make_bell: Callable[[Any, Callable[[], None]], Bell] = Bell,
        make_echo: Callable[[Any, Callable[[str, IPv6Address], None]], Echo] = Echo,
    ) -> None:
        """``own``: our link-local address on all taps; without one there are no heartbeats. ``interval`` in
        seconds may be changed at any time, and so may ``hello``, babel's.

        ``partners`` answers with the same object as long as they are the same; when they are others, ``look``
        is to be called.
        ``neighbours``, ``routes``, ``elsewhere``, ``covered``: as in node.prompting; ``unused(tap, address)``
        tells whether nothing of ours goes there that could go elsewhere; ``on_change`` is called when
        somebody has died, come back, begun or ended leaving; ``on_woken`` when the machine has slept.
        ``traffic`` tells how many packets each tap has carried since it was asked last.
        """
        self.interval = interval
        self.hello = hello
        self._reactor = reactor
        self._own = own or IPv6Address(0)
        self._voice = Voice(self._own.packed)
        self._partners = partners
        self._babel = (neighbours, routes, elsewhere, covered)
        self._unused = unused
        self._on_change = on_change
        self._on_woken = on_woken
        self._make_socket = make_socket
        self._make_prompter = make_prompter
        self._make_bell = make_bell
        self._make_echo = make_echo
        self._traffic = traffic or Traffic().look
        self._socket: BeatSocket | None = None
        self._bell: Bell | None = None
        self._echo: Echo | None = None
        self._prompter: Prompter | None = None
        self._prompting: Prompting | None = None
        self._ends = Ends(lambda: self._pace.hasten(self._looked), self._inquire, neighbours)
        self._leaving: set[str] = set()
        self._ending: set[str] = set()
        self._all_leave = self._all_end = False
        self._met: Partners = {}
        self._number = 0
        self._pace = Pace(0.0)
        self._looked = self._counted = 0.0
        # Whether all are to be judged, and the partners may be others; whether babeld needs no word, and
        # whether anybody has not been heard yet.
        self._all = self._others = True
        self._calm = self._awaits = False
        self._woken = -inf
        self._tick: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin. Without the sockets, babel alone watches the tunnels."""
        super().startService()
        if not int(self._own):
            return
        try:
            self._socket = self._make_socket()
            self._bell = self._make_bell(self._reactor, self._ring)
            self._echo = self._make_echo(self._reactor, self._answered)
            self._prompter = self._make_prompter(self._own)
            self._prompting = Prompting(self._prompter, *self._babel)
        except OSError as error:
            self.log.warn(
                "no heartbeats ({problem}): a dead tunnel is noticed by babel's hellos only, and one that is"
                " replaced loses packets",
                problem=error.strerror,
            )
            self._close()
            return
        self._looked = self._counted = self._reactor.seconds()
        self._pace.hasten(self._looked)
        self._look_again()

    def stopService(self) -> None:
        """End."""
        super().stopService()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._close()

    def _close(self) -> None:
        for opened in (self._socket, self._bell, self._echo, self._prompter):
            if opened is not None:
                opened.close()
        self._socket = self._bell = self._echo = self._prompter = self._prompting = None

    # -- what others ask and want ------------------------------------------------------------------------

    def health(self, tap: str, address: str) -> Health:
        """What is known of this neighbour."""
        end = self._ends.get((tap, IPv6Address(address).packed))
        return Health.UNKNOWN if end is None else end.health

    def silent(self, tap: str, address: IPv6Address | None, since: float) -> float | None:
        """Since when nothing has been heard of this neighbour; None while it is heard, or has never been.

        The tunnel to it is up ``since`` then. What has come before the machine slept does not count.
        """
        end = None if address is None else self._ends.get((tap, address.packed))
        if end is not None and end.gone:
            end = None
        last = since if end is None else end.last
        if last < self._woken + STALE:
            return min(last, self._woken)
        # What has been heard since the sleep counts, though it may not be enough yet.
        return None if end is None or end.cost < INFINITY else max(end.died, self._woken + STALE)

    def leave(self, tap: str | None = None) -> None:
        """Have both ends move their routes off this tap; for None have all go elsewhere that can."""
        if tap is None:
            self._all_leave = True
        else:
            self._leaving.add(tap)
        self.look()

    def stay(self, tap: str | None = None) -> None:
        """Take that back."""
        if tap is None:
            self._all_leave = self._all_end = False
        else:
            self._leaving.discard(tap)
            self._ending.discard(tap)
        self.look()

    def end(self, tap: str | None = None) -> None:
        """Tell the other end of this tap (of all for None) that it is gone now. It would notice that by our
        silence only, if its babeld had just come back to the tunnel because ours had told the usual cost."""
        if tap is None:
            self._all_end = True
        else:
            self._ending.add(tap)
        self._pace.hasten(self._looked)
        self.look()

    def show(self) -> None:
        """Our packets may come from elsewhere now: let those see it soon who accept that."""
        now = self._reactor.seconds()
        for end in self._ends.values():
            end.eager = now + EAGER
            self._ends.hasten(end)
        self._pace.hasten(now)
        self.look()

    def empty(self, tap: str | None = None) -> bool:
        """Whether neither end has anything on this tap that can go elsewhere; on none of all for None."""
        return not self.busy(tap)

    def busy(self, tap: str | None = None) -> list[tuple[str, IPv6Address]]:
        """Those on this tap (on all for None) who have, or for whom we have, something that can go elsewhere:
        tap and address of each."""
        ends = [end for end in self._ends.values() if tap in (None, end.tap) and end.cost < INFINITY]
        return [
            (end.tap, end.address)
            for end in ends
            if not (end.cost >= self._asked(end) > 0 and end.empty and self._is_empty(end))
        ]

    def calm(self) -> bool:
        """Whether there is nothing of which babeld has to be told as soon as it believes something else."""
        return self._calm

    def patience(self) -> float:
        """For how many seconds what babeld believes may wait."""
        return self._period(self._reactor.seconds()) if self._calm else 0.0

    @property
    def works(self) -> bool:
        """Whether anybody is told anything."""
        return self._socket is not None

    # -- turn --------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """All that is done so often is done in one waking."""
        self._look()
        self._tick = self._reactor.callLater(self._until_look(), self._look_again)

    def _until_look(self) -> float:
        """Seconds until the next look, unless somebody has something to say before."""
        now = self._reactor.seconds()
        period = self._period(now)
        if self._bell is not None:
            (self._bell.listen if period == CALM else self._bell.ignore)()
        return self._pace.until_look(now, period)

    def _period(self, now: float) -> float:
        if now < self._ends.keen:
            return KEEN
        return CALM if self._calm and not self._awaits and now >= self._ends.hurry else LOOK

    def _ring(self) -> None:
        """Somebody has something to say that does not wait; who says it all the time has to."""
        self._come_back(max(0.0, self._looked + RING - self._reactor.seconds()))

    def _come_back(self, wait: float) -> None:
        if self._tick is not None and self._tick.active():
            self._tick.reset(wait)

    def look(self) -> None:
        """Something has changed that nobody else tells: look now, and at everybody."""
        self._all = self._others = True
        self._look()
        self._come_back(self._until_look())

    def _look(self) -> None:
        """Read what has come, judge, send what is due. One bad turn is logged."""
        if self._socket is None:
            return
        try:
            self._turn(self._socket, self._reactor.seconds())
        except Exception:
            self.log.failure("the heartbeats cannot be dealt with")
            self._all = True

    def prompt(self) -> None:
        """babeld believes something else of a neighbour than before: correct it where that is wrong."""
        if self._prompting is not None and not self._calm:
            self._calm = self._prompting.prompt(self._ends, self._looked, self._woken, self.hello)

    def _turn(self, opened: BeatSocket, now: float) -> None:
        before, self._looked = self._looked, now
        slept = now - before > ASLEEP
        if slept:
            self._woken = now
        if self._others or self._pace.is_due(now):
            self._others = False
            self._follow(self._partners(), now)
        heard = self._ends.read(opened.read(), now, before, self._number)
        everybody, self._all = self._all, False
        heard |= {(end.tap, end.address.packed): end for end in self._ends.review(now, everybody=everybody)}
        changed = self._judge(heard.values(), now)
        if self._pace.is_due(now):
            self._pace.beat(now, self.interval)
            self._number = (self._number + 1) % 256
            self._calm = False
            self._note_traffic(now)
            self._greet(opened)
            changed = [end.count() for end in self._ends.values()]
        elif now < self._ends.hurry:
            due = [end.count() for end in self._ends.values() if end.wants(now)]
            changed = due + [end for end in changed if end not in due]
        self.prompt()
        if not self._calm:
            # Who waits to end a tunnel shall hear at once that it is in use again.
            again = (end for end in self._ends.values() if end.said and not end.gone and end.cost >= LEAVING)
            changed += [end for end in again if end not in changed and not self._is_empty(end)]
        for end in changed:
            if not end.gone:
                self._send(opened, end)
        if slept:
            self.log.info("this machine has slept")
            self._on_woken()

    def _inquire(self, end: End) -> None:
        """Its beats are missing: is its kernel there?"""
        if self._echo is not None:
            self._echo.ask(end.tap, end.address)

    def _answered(self, tap: str, address: IPv6Address) -> None:
        """It is."""
        end = self._ends.get((tap, address.packed))
        if end is not None and not end.gone:
            end.answered = self._reactor.seconds()
            if end.cost == INFINITY:
                self.look()

    def _note_traffic(self, now: float) -> None:
        """Some tunnels carry packets that would be lost with them. Of a tap with several others behind it
        nobody knows whose packets these are; it is for them to tell."""
        beats = self._ends.take_beats()
        enough = BUSY * (now - self._counted)
        self._counted = now
        busy = {tap for tap, count in self._traffic().items() if count - beats[tap] >= enough}
        for end in self._ends.values() if busy else ():
            if end.tap in busy and len(self._ends.senders.get(end.tap, ())) == 1:
                end.use(now)
                self._ends.hasten(end)

    def _follow(self, partners: Partners, now: float) -> None:
        """Others may be at the other ends."""
        if partners is self._met:
            return
        if not partners.keys() <= self._met.keys():
            # The other end waits for our first beat, and we for its.
            self._pace.hasten(now)
        self._met, self._awaits = partners, True
        self._ends.follow(partners)
        self._all = True

    def _judge(self, ends: Iterable[End], now: float) -> list[End]:
        """What follows for these; those whose other end should know at once."""
        changed = []
        for end in ends:
            before = end.words
            if end.judge(self._asked(end), now):
                changed.append(end)
                if end.words != before:
                    self._say(end)
        if changed:
            self._calm = False
            self._on_change()
        return changed

    def _asked(self, end: End) -> int:
        """What it shall cost at least because we want to be left."""
        if end.tap in self._leaving:
            return LEAVING
        return DRAINED if self._all_leave else 0

    def _say(self, end: End) -> None:
        self.log.debug("{address} on {tap} {words}", address=str(end.address), tap=end.tap, words=end.words)

    def _is_empty(self, end: End) -> bool:
        """Our babel knows what it costs, and takes it for nothing that has a better way."""
        return end.believed >= end.cost and self._unused(end.tap, str(end.address))

    # -- say ---------------------------------------------------------------------------------------------

    def _greet(self, opened: BeatSocket) -> None:
        """Whom nobody has heard yet does not know that we are here."""
        self._awaits = any(self._ends.strangers())
        for tap in self._met.keys() - {end.tap for end in self._ends.values() if not end.gone}:
            opened.send(tap, EVERYBODY, self._voice.greeting(self._number, self.interval))

    def _send(self, opened: BeatSocket, end: End) -> None:
        ending = self._all_end or end.tap in self._ending
        is_left = not ending and end.mine < INFINITY and end.cost >= DRAINED
        end.said = empty = is_left and self._is_empty(end)
        now = end.beaten = self._looked
        self._ends.beats[end.tap] += 1
        frame = self._voice.beat(end, now, self.interval, ending=ending, empty=empty)
        opened.send(end.tap, end.hardware, frame)
