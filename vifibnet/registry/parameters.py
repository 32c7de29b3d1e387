"""The network's parameters: what the operator sets, and the document that tells all nodes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.logger import Logger

from vifibnet.errors import BadParameter, StorageFailed
from vifibnet.model.advice import contradiction
from vifibnet.model.parameters import PARAMETERS, SECRET, Values, write
from vifibnet.registry.documents import Documents
from vifibnet.store.audit import REGISTRY
from vifibnet.store.parameters import Setting
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.document import Kind
from vifibnet.wire.parameters import format_parameters

log = Logger()

NEW = "new"
"""What the operator gives instead of a secret, which we make: a command line is no place for one."""

KEY_BYTES = 32
"""Of a new babel key: as many as BLAKE2s takes."""


@dataclass(frozen=True)
class Changed:
    """What has come of a change: the settings before and after, those that differ, and who was told."""

    before: Mapping[str, Setting]
    after: Mapping[str, Setting]
    names: tuple[str, ...]
    number: int
    told: int


BEGINNING = {"hello": "1", "update-interval": "20"}
"""What a new network begins with, instead of the manual's defaults: with heartbeats of 0.3 s an idle tunnel
costs less than 4 kbit/s in each direction (bench.idle), and packets find another way within a second
(bench.failover)."""


class Parameters:
    """The network's parameters."""

    def __init__(self, store: RegistryStore, documents: Documents) -> None:
        """Nothing is changed by that; see ``first_start``."""
        self._store = store.parameters
        self._documents = documents
        documents.add(Kind.PARAMETERS, self._store.number, self._lines)

    def first_start(self) -> None:
        """Set what a new network begins with, and make a babel key unless there is one or the operator
        wants none."""
        changes: dict[str, str | None] = {} if self._store.number() else dict(BEGINNING)
        if "babel-key" not in self.settings():
            changes["babel-key"] = NEW
        if not changes:
            return
        try:
            self.change(changes, REGISTRY)
        except StorageFailed as error:
            log.error("the network's first parameters are not set yet: {error}", error=str(error))

    def settings(self) -> dict[str, Setting]:
        """What was set, by name."""
        return self._store.settings()

    def _lines(self) -> list[str]:
        return format_parameters(_values(_texts(self.settings())))

    def change(self, changes: Mapping[str, str | None], by: str) -> Changed:
        """Set parameters, all or none (None: back to the default), and tell everybody who is connected.

        Raises BadParameter.
        """
        before = self.settings()
        texts = {name: _checked(name, text) for name, text in changes.items()}
        after = _texts(before) | texts
        values = _values(after)
        against = contradiction(values)
        if against is not None:
            name, problem = against
            raise BadParameter(what=f"{name}={write(values[name])}", problem=problem)
        differing = {name: text for name, text in texts.items() if text != _texts(before).get(name)}
        if not differing:
            return Changed(before, before, (), self._store.number(), 0)
        number = self._store.change(differing, by)
        log.info("{by} set {what}", by=by, what=" ".join(_shown(*each) for each in differing.items()))
        self._documents.changed(Kind.PARAMETERS)
        told = len(self._documents.connections)
        return Changed(before, self.settings(), tuple(differing), number, told)


def _checked(name: str, text: str | None) -> str | None:
    """The text to keep. Raises BadParameter."""
    parameter = PARAMETERS.get(name)
    if parameter is None:
        raise BadParameter(what=name[:40], problem=f"there is none of that name, but {', '.join(PARAMETERS)}")
    if text is None:
        # That no secret is wanted must be kept, too.
        return "" if name in SECRET else None
    if name in SECRET:
        if text != NEW:
            problem = (
                f"a secret is not to stand on a command line; {name}={NEW} makes one, {name}= removes it"
            )
            raise BadParameter(what=name, problem=problem)
        return secrets.token_hex(KEY_BYTES)
    try:
        return write(parameter.read(text))
    except ValueError as error:
        raise BadParameter(what=f"{name}={text[:40]}", problem=f"it takes {error}") from None


def _texts(settings: Mapping[str, Setting]) -> dict[str, str | None]:
    return {name: setting.value for name, setting in settings.items()}


def _values(texts: Mapping[str, str | None]) -> Values:
    """What is in force."""
    return {name: PARAMETERS[name].read(text) for name, text in texts.items() if text}


def _shown(name: str, text: str | None) -> str:
    """A change for the log."""
    return f"{name}={NEW if text and name in SECRET else text or ''}"
