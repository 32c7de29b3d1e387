"""The network's parameters as lines of a document: ``hello 0.5``, one line each, in alphabetical order.

What a newer registry may set, and this program does not know, is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from vifibnet.errors import BadDocument
from vifibnet.model.parameters import PARAMETERS, Value, Values, write


def format_parameters(values: Values) -> list[str]:
    """The lines."""
    return [f"{name} {write(value)}" for name, value in sorted(values.items())]


def parse_parameters(lines: Sequence[str]) -> Values:
    """Read the lines. Raises BadDocument where they are no parameters, or one has a value it cannot have."""
    values: dict[str, Value] = {}
    last = ""
    for line in lines:
        name, _, text = line.partition(" ")
        if name <= last:
            raise BadDocument(problem="its parameters are not in alphabetical order")
        last = name
        if name in PARAMETERS:
            try:
                values[name] = PARAMETERS[name].read(text)
            except ValueError as error:
                # The value may be a secret.
                raise BadDocument(problem=f"{name} is not {error}") from None
    return values
