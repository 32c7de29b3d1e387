"""How often a node looks at what has come over its tunnels, and how often it beats itself."""

from __future__ import annotations

from vifibnet.node.ticks import until_tick

LOOK = 0.05
"""Seconds between two looks. Reading now and then costs much less than at each frame."""

CALM = 4 * LOOK
"""The same while all is well, and nothing is carried that would be lost: waking costs more than the look, and
of what is not as usual the kernel tells at once (see node.bell)."""

KEEN = LOOK / 4
"""The same while a tunnel that carries packets seems to lose some: three of 16 are sooner found then. With
20 % lost at random that takes 0.29 s, and in one case of ten 0.48; with half as many looks it would take 0.39
and 0.67."""

STRETCH, MOST, EARLY = 0.1, 0.05, 0.4 * LOOK
"""Beats come a tenth later than told, or so many seconds if that is less, each as many seconds earlier as the
look may be that is nearest. They follow a schedule: where each was counted from the one before, which a look
had delayed, two delays together were a silence after one beat was lost."""


class Pace:
    """The schedule of our beats; looks are taken at multiples of LOOK, by which others wake, too."""

    def __init__(self, now: float) -> None:
        """The first beat is due."""
        self._next = now

    def is_due(self, now: float) -> bool:
        """Whether a beat is."""
        return now >= self._next - EARLY

    def hasten(self, now: float) -> None:
        """The next one is due now."""
        self._next = now

    def beat(self, now: float, interval: float) -> None:
        """A beat is sent, and another one after this ``interval`` as told. What was not sent in time is
        lost."""
        step = interval + min(STRETCH * interval, MOST)
        self._next = (self._next if self._next > now - step else now) + step

    def until_look(self, now: float, period: float) -> float:
        """Seconds until the next look, which are taken so often, and when a beat is due."""
        wait, longest = until_tick(now, LOOK), until_tick(now, period)
        while wait < longest - EARLY and not self.is_due(now + wait):
            wait += LOOK
        return min(wait, longest)
