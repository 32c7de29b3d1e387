"""What can go wrong, one class each. A child's docstring is the sentence that the operator reads."""

from __future__ import annotations

from typing import ClassVar


class VifibnetError(Exception):
    """Something went wrong in vifibnet."""

    def __init__(self, sentence: str | None = None, **fields: object) -> None:
        """Say ``sentence``, or the class's docstring with ``fields`` filled in."""
        doc = " ".join((type(self).__doc__ or "").split())
        super().__init__(sentence if sentence is not None else doc.format(**fields))
        self.fields = fields


# -- what the operator gave us --------------------------------------------------------------------


class BadInput(VifibnetError):
    """{what}: {problem}; {remedy}."""

    def __init__(self, what: object, problem: str, remedy: str) -> None:
        """Name the option or file, what is wrong with it, and what would be right."""
        super().__init__(what=what, problem=problem, remedy=remedy)


class BadAddress(VifibnetError):
    """{text!r} is not {wanted}."""


# -- what the registry refuses --------------------------------------------------------------------------


class RegistryRefusal(VifibnetError):
    """The registry refused the request."""

    code: ClassVar[int] = 1
    """The XML-RPC faultCode and AMP error code: part of the protocol, so it never changes."""


class InternalError(RegistryRefusal):
    """The registry failed to answer; its log says why."""

    code = 2


class BadArguments(RegistryRefusal):
    """{method} was called with wrong arguments: {problem}."""

    code = 3


class UnknownMethod(RegistryRefusal):
    """There is no method {method!r}; system.listMethods names those that there are."""

    code = 4


class NotXMLRPC(RegistryRefusal):
    """The request cannot be read as an XML-RPC call."""

    code = 5


class UnknownToken(RegistryRefusal):
    """This token is unknown, was already used, or is too old: request a new one."""

    code = 10


class BadRequest(RegistryRefusal):
    """The certificate request is refused: {problem}."""

    code = 11


class NetworkFull(RegistryRefusal):
    """The network has no free prefix of {length} bits left."""

    code = 12


class NoPeerYet(RegistryRefusal):
    """The registry knows no peer yet: start a node that others can reach, or use --no-boot."""

    code = 13


class NotInsideNetwork(RegistryRefusal):
    """{address} is not the caller's own address inside the network {network}."""

    code = 14


class BadEndpoints(RegistryRefusal):
    """The endpoints {text!r} are refused: {problem}."""

    code = 15


class BadEmail(RegistryRefusal):
    """{email!r} is not an e-mail address."""

    code = 16


class MailFailed(RegistryRefusal):
    """The mail with the token could not be sent ({problem}): try again later."""

    code = 17


class UnknownNode(RegistryRefusal):
    """This certificate is not one that the registry knows as valid."""

    code = 18


class AuthorityExpired(RegistryRefusal):
    """The network's certificate authority expired on {when}: its operator must make a new one."""

    code = 19


class CertificateRevoked(UnknownNode):
    """This certificate was revoked: its node does not belong to the network any more."""

    code = 30


class CertificateExpired(UnknownNode):
    """This certificate has expired: until its node renews it, it is good for nothing else."""

    code = 31


class NoSuchNode(RegistryRefusal):
    """{what!r} is no node of this registry: vifibnet nodes shows their prefixes and addresses."""

    code = 32


class TooManyTokens(RegistryRefusal):
    """{email} was sent {count} tokens within an hour: use one of them, or come back later."""

    code = 33


class NotDone(RegistryRefusal):
    """{what} failed: {problem}."""

    code = 34


class StorageFailed(RegistryRefusal):
    """The registry cannot write its database ({problem}): its operator must see to it; try again later."""

    code = 35


class BadParameter(RegistryRefusal):
    """The parameter {what} is refused: {problem}."""

    code = 36


# A base class comes after its children: AMP takes the first class of which an error is an instance.
REFUSALS: dict[int, type[RegistryRefusal]] = {
    cls.code: cls
    for cls in (
        InternalError, BadArguments, UnknownMethod, NotXMLRPC, UnknownToken, BadRequest, NetworkFull,
        NoPeerYet, NotInsideNetwork, BadEndpoints, BadEmail, MailFailed, CertificateRevoked,
        CertificateExpired, UnknownNode, AuthorityExpired, NoSuchNode,
        TooManyTokens, NotDone, StorageFailed, BadParameter, RegistryRefusal,
    )
}  # fmt: skip
"""Every refusal by its code, to turn a Fault back into what it says."""


# -- what the node meets ----------------------------------------------------------------------------


class CommandFailed(VifibnetError):
    """{command} ended with status {status}: {output}"""


class BabeldDeaf(VifibnetError):
    """babeld does not answer within {seconds} s: its log, vifibnet-babeld.log, says why."""


class RegistryUnreachable(VifibnetError):
    """The registry at {where} does not answer: {problem}."""


class PeerUnreachable(VifibnetError):
    """{peer} does not answer over the network itself: {problem}."""


class RegistryNotRunning(VifibnetError):
    """No registry answers at {socket}: start it with twistd vifibnet-registry, or tell with --registry where
    its database is."""


class NodeNotRunning(VifibnetError):
    """No node answers at {socket}: start it with twistd vifibnet-node, tell with --state where its files are,
    or ask for the registry's status with --registry."""


class NodeRefusal(VifibnetError):
    """The node does not do that: {problem}."""


class NotOurRegistry(VifibnetError):
    """{where} is not the registry of this network: {problem}."""


class BadDocument(VifibnetError):
    """The document is refused: {problem}."""
