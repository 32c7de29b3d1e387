"""What a node holds as long as it runs: the lock, and the files that it alone may change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from vifibnet.model.addresses import Prefix
from vifibnet.node.config import NodeConfig
from vifibnet.node.parts import Parts


class Holdings:
    """Held from their making until ``release``."""

    def __init__(
        self,
        parts: Parts,
        on_trust: Callable[[frozenset[Prefix]], None],
        on_parameters: Callable[[NodeConfig], None],
    ) -> None:
        """Each is called when it has changed. Raises BadInput, holding nothing, when there is another node or
        no peer database."""
        with ExitStack() as held:
            held.callback(parts.lock().release)
            self.authorities = parts.authorities()
            self.trust = parts.trust(self.authorities, on_trust)
            held.callback(self.trust.files.close)
            # First of the two: the directory around both goes with the other.
            held.callback(self.authorities.close)
            self.parameters = parts.parameters(self.authorities, on_parameters)
            self.store = parts.store()
            held.callback(self.store.close)
            self._held = held.pop_all()

    def release(self) -> None:
        """Let go of all, of the lock last."""
        self._held.close()
