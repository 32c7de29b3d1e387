"""The network's parameters as a node keeps them, and what it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from vifibnet.model.parameters import NOTHING, SECRET, Values, changed, write
from vifibnet.model.status import ParametersStatus
from vifibnet.node.config import NodeConfig, follow
from vifibnet.node.documents import KeptDocument
from vifibnet.pki.certificates import CA
from vifibnet.wire.document import Kind
from vifibnet.wire.parameters import parse_parameters


class Parameters:
    """Keeps the parameters (a Keeper: see node.documents); a node starts with those of its last run.

    ``on_change(config)`` is called when others are in force, with the config that follows.
    """

    log = Logger()
    kind = Kind.PARAMETERS

    def __init__(
        self,
        config: NodeConfig,
        cas: Callable[[], Sequence[CA]],
        kept_cas: Callable[[], Sequence[CA]],
        on_change: Callable[[NodeConfig], None],
    ) -> None:
        """``config`` is what the command line says; ``cas`` and ``kept_cas`` are KeptDocument's."""
        self.document = KeptDocument(self.kind, parse_parameters, config.state, cas, kept_cas)
        self._given = config
        self._on_change = on_change

    @property
    def number(self) -> int:
        """The number of the document; 0 without one."""
        return self.document.number

    @property
    def data(self) -> bytes:
        """The document, signed; empty without one."""
        return self.document.data

    @property
    def config(self) -> NodeConfig:
        """What holds for this node now."""
        return follow(self._given, self._values)

    @property
    def _values(self) -> Values:
        return self.document.value or NOTHING

    def give(self, config: NodeConfig) -> NodeConfig:
        """The command line says this now; what holds then."""
        self._given = config
        return self.config

    def take(self, data: bytes) -> None:
        """Here is a document. Raises BadDocument where it is none of the network's."""
        before = self._values
        if not self.document.take(data):
            return
        names = sorted(changed(before, self._values))
        self.log.info(
            "network parameters {number}: {changes}",
            number=self.number,
            changes=", ".join(map(self._news, names)) or "no change",
        )
        self._on_change(self.config)

    def _news(self, name: str) -> str:
        """What is new about one of them; a secret stays one."""
        value = self._values.get(name)
        text = "back to its default" if value is None else "a new one" if name in SECRET else write(value)
        return f"{name} {text}" + (" (overridden by our command line)" if name in self._given.given else "")

    def status(self) -> ParametersStatus:
        """What holds, for the operator's eyes."""
        values = self.config.values.items()
        return ParametersStatus(
            self.number, {name: "set" if name in SECRET else write(value) for name, value in values}
        )
