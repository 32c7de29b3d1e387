"""The registry's documents for who has just joined: a node's first start is to need no registry.

They are asked for as the node itself does, over AMP, by who shows the new certificate.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.interfaces import IStreamClientEndpoint

from vifibnet.errors import BadDocument, RegistryRefusal, RegistryUnreachable
from vifibnet.files import write_atomically
from vifibnet.node.dialogue import Dialogue
from vifibnet.node.registryclient import RegistryClient
from vifibnet.node.registryendpoint import RegistryEndpoint
from vifibnet.pki.certificates import Identity
from vifibnet.pki.document import read_document
from vifibnet.wire.document import Kind

KEPT = "there already, used as it is"


async def fetch_documents(
    reactor: Any, address: IStreamClientEndpoint, where: str, identity: Identity, state: Path, to: Dialogue
) -> None:
    """Write the documents that are missing in ``state``; that the registry has none to give is no failure.

    Raises BadInput where they cannot be written.
    """
    # When to try again is no secret, and it is not tried again.
    rng = Random()  # noqa: S311
    registry = RegistryClient(
        reactor, rng, RegistryEndpoint(lambda: address, lambda: identity, lambda: identity.cas), where
    )
    registry.startService()
    try:
        for kind in Kind:
            file = state / kind
            if file.exists():
                to.say(f"{kind}: {KEPT}")
                continue
            data = await registry.document(kind, 0)
            if data is not None:
                number = read_document(data, kind, identity.cas).number
                write_atomically(file, data, 0o600)
                to.say(f"{kind}: written, number {number}")
    except (RegistryUnreachable, RegistryRefusal, BadDocument) as error:
        to.say(f"Not everything that the network has to say is there; the node will ask for it. {error}")
    finally:
        await registry.stopService()
