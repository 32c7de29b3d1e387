"""``vifibnet set``: show or change what holds for the whole network."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.listing import terminal_width
from vifibnet.cli.tables import counted, day
from vifibnet.errors import BadInput
from vifibnet.model.advice import warnings
from vifibnet.model.parameters import PARAMETERS, SECRET, Parameter, Values, write
from vifibnet.wire.admin import SetParameters

NAME, VALUE = 16, 22
"""Columns of the list."""

Settings = Mapping[str, Mapping[str, Any]]
"""The parameters that are set, by name (wire.admin.SETTING)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to change."""
    parser.add_argument(
        "changes",
        nargs="*",
        metavar="NAME=VALUE",
        help="parameters to set, all or none; NAME= puts one back to its default, babel-key=new makes a key;"
        " without any, they are listed",
    )
    parser.add_argument("--json", action="store_true", help="list them as a JSON array, also after a change")
    parser.epilog = "What a node's own command line says wins over what is set here."
    adminclient.add_arguments(parser)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Change what is to be changed; list all when nothing is."""
    changes = [{"name": name, "value": value} for name, value in read_changes(args.changes).items()]
    async with adminclient.running_registry(reactor, args) as registry:
        answer = await registry.call(SetParameters, changes=changes)
    after = _by_name(answer["after"])
    if args.json:
        print("[\n" + ",\n".join(json.dumps(each) for each in described(after)) + "\n]")
    elif changes:
        print("\n".join(report(answer, terminal_width())))
    else:
        print("\n".join(listed(after, terminal_width())))
    return 0


def read_changes(words: Sequence[str]) -> dict[str, str | None]:
    """The new values by name, None for the default. Raises BadInput."""
    changes: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise BadInput(word, "is no change", "write NAME=VALUE, or NAME= for the default")
        if name in changes:
            raise BadInput(word, f"{name} is given twice", "leave one of them out")
        changes[name] = value or None
    return changes


def described(settings: Settings) -> Iterator[dict[str, Any]]:
    """All parameters for a program."""
    for name, parameter in PARAMETERS.items():
        setting = settings.get(name)
        yield {
            "name": name,
            "value": None if setting is None else _read(parameter, setting["value"]),
            "default": parameter.default,
            "changed": None if setting is None else setting["changed"],
            "secret": name in SECRET,
            "unit": parameter.unit,
            "applies": parameter.applies,
            "meaning": parameter.meaning,
        }


def listed(settings: Settings, width: int) -> Iterator[str]:
    """All parameters for the operator, by when a change of them applies."""
    order = sorted(PARAMETERS.values(), key=lambda parameter: parameter.applies.name)
    for applies, group in groupby(order, key=lambda parameter: parameter.applies):
        yield f"A change applies {applies}:"
        for parameter in group:
            head = f"  {parameter.name:{NAME}} {_value(parameter, settings):{VALUE}} "
            text = f"{parameter.meaning} ({parameter.unit})"
            indent = " " * (NAME + VALUE + 4)
            yield textwrap.fill(text, max(width, 60), initial_indent=head, subsequent_indent=indent)
        yield ""
    yield textwrap.fill("* The default. What a node's own command line says wins over all of these.", width)


def report(answer: Mapping[str, Any], width: int) -> Iterator[str]:
    """What came of a change."""
    before, after = _by_name(answer["before"]), _by_name(answer["after"])
    for name in answer["changed"]:
        parameter = PARAMETERS[name]
        was = "" if name in SECRET else f" (was {_plain(parameter, before)})"
        yield f"{name}: {_plain(parameter, after)}{was}, applies {parameter.applies}"
    if not answer["changed"]:
        yield "All of that is so already; nothing was changed."
        return
    told = counted(answer["told"], "node")
    yield textwrap.fill(
        f"{told} connected to the registry and told at once; the others hear of it from their peers, or ask"
        f" when they are back (number {answer['number']}).",
        width,
    )
    for warning in warnings(_values(after), answer["changed"]):
        yield textwrap.fill(f"Mind: {warning}", width)


def _by_name(settings: Sequence[Mapping[str, Any]]) -> Settings:
    return {setting["name"]: setting for setting in settings}


def _values(settings: Settings) -> Values:
    read = {name: _read(PARAMETERS[name], setting["value"]) for name, setting in settings.items()}
    return {name: value for name, value in read.items() if value is not None}


def _read(parameter: Parameter, text: str | None) -> Any:
    """A value out of an answer: True for a secret that nobody is told, None where there is to be none."""
    return True if text is None else parameter.read(text) if text else None


def _plain(parameter: Parameter, settings: Settings) -> str:
    """A value where there is room for words."""
    return _value(parameter, settings).replace(" *", ", the default")


def _value(parameter: Parameter, settings: Settings) -> str:
    setting = settings.get(parameter.name)
    if setting is None:
        return "none *" if parameter.default is None else f"{write(parameter.default)} *"
    if parameter.name in SECRET:
        if setting["value"] == "":
            return "none"
        return f"set (since {day(setting['changed'])})"
    return str(setting["value"])
