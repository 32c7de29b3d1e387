"""``--lost-database``: what a node's documents tell a registry that has lost its own memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vifibnet.errors import BadDocument, BadInput
from vifibnet.model.parameters import NOTHING
from vifibnet.pki.certificates import CA
from vifibnet.pki.document import read_document
from vifibnet.store.lost import Remembered
from vifibnet.wire.document import MAX_DOCUMENT, Document, Kind
from vifibnet.wire.parameters import parse_parameters
from vifibnet.wire.revocation import parse_revocations

REMEDY = "give the state directory of a node, or a copy, or the word none if nothing was ever set or revoked"


def remembered(option: str | None, cas: Sequence[CA]) -> Remembered | None:
    """Read the option's value; ``cas`` may have signed. Raises BadInput."""
    if option is None:
        return None
    if option == "none":
        return Remembered()
    revocations = _document(option, Kind.REVOCATIONS, cas)
    parameters = _document(option, Kind.PARAMETERS, cas)
    if revocations is None and parameters is None:
        raise BadInput(f"--lost-database {option}", "there is no document of a node's", REMEDY)
    try:
        return Remembered(
            0 if revocations is None else revocations.number,
            () if revocations is None else parse_revocations(revocations.lines).revoked,
            0 if parameters is None else parameters.number,
            NOTHING if parameters is None else parse_parameters(parameters.lines),
        )
    except BadDocument as error:
        raise BadInput(f"--lost-database {option}", str(error).rstrip("."), REMEDY) from None


def _document(directory: str, kind: Kind, cas: Sequence[CA]) -> Document | None:
    """A document in a node's state directory; None where it has none. Raises BadInput."""
    path, what = Path(directory) / kind, f"--lost-database {directory}"
    try:
        with path.open("rb") as stream:
            return read_document(stream.read(MAX_DOCUMENT + 1), kind, cas)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(what, f"{path} cannot be read ({error.strerror})", REMEDY) from None
    except BadDocument as error:
        raise BadInput(what, f"{path}: {str(error).rstrip('.')}", REMEDY) from None
