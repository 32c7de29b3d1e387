"""Filters that the kernel applies to what a socket gets (socket(7), Linux's networking/filter.rst)."""

from __future__ import annotations

import ctypes
import socket
import struct

Instruction = tuple[int, int, int, int]
"""Code, jumps if true and if false, operand."""

_SO_ATTACH_FILTER = 26
_INSTRUCTION = struct.Struct("HBBI")


def attach(opened: socket.socket, instructions: tuple[Instruction, ...]) -> None:
    """Have a socket get only what this filter accepts. Raises OSError."""
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in instructions))
    pointer = struct.pack("HP", len(instructions), ctypes.addressof(program))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
