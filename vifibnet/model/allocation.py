"""How the free space of a network is split into prefixes."""

from __future__ import annotations


def split(free: str, length: int) -> tuple[str, list[str]]:
    """Take a prefix of ``length`` bits out of the free prefix ``free``, as vifibnet does since 2012.

    The free prefix is halved again and again: the lower half is split further, every upper half stays free.
    Returns the bits given and the bits of what is left, longest first. Together they are exactly ``free``.
    Raises ValueError where ``free`` is longer than what is wanted.
    """
    if len(free) > length:
        raise ValueError(f"a free prefix of {len(free)} bits holds none of {length}")
    given = free.ljust(length, "0")
    return given, [given[:end] + "1" for end in reversed(range(len(free), length))]
