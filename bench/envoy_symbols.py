"""Names the functions of a stripped Envoy, so that a profile shows where its CPU time goes.

The ranges of all functions are in the tables for exceptions (`.eh_frame_hdr`, Linux Standard Base
Core 5.0 section 10.6). The names of classes are in the type information that virtual tables point
to (Itanium C++ ABI section 2.9). So every virtual function gets the name of its class and the
number of its slot; other functions are named by their address.
"""

import re
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

_HEADERS_AT: Final = 0x28
_NUMBERS_AT: Final = 0x3A
"""Places in the header of an ELF file: of the section headers, and of their size and number."""

_RELATIVE: Final = 8
"""R_X86_64_RELATIVE: the word is an address in the file, in the addend."""

_CODE: Final = 4
"""SHF_EXECINSTR."""

_LOCAL_FUNCTION: Final = 2
_MANGLED: Final = re.compile(rb"[NSZ0-9][A-Za-z0-9_$.*]+")


class _Section(NamedTuple):
    """A section header, in the order of its fields (Elf64_Shdr)."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and 0 <= address - self.address < self.size


_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True)
class _Function:
    start: int
    size: int


class _Elf:
    """A position-independent ELF file for x86-64."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        (at,) = struct.unpack_from("<Q", content, _HEADERS_AT)
        size, number, names = struct.unpack_from("<HHH", content, _NUMBERS_AT)
        headers = range(at, at + size * number, size)
        self.sections = [_Section(*_SECTION.unpack_from(content, each)) for each in headers]
        self.names_index = names
        self.by_name = {self._text(self.sections[names], s.name): s for s in self.sections}

    def _text(self, section: _Section, at: int) -> str:
        return self.string(section.offset + at).decode()

    def string(self, offset: int) -> bytes:
        """The bytes from an offset in the file up to the next NUL."""
        return self.content[offset : self.content.index(b"\0", offset)]

    def offset(self, address: int) -> int | None:
        """The place in the file of an address in constant data."""
        found = self.by_name[".rodata"]
        return found.offset + address - found.address if address in found else None

    def functions(self) -> Iterator[_Function]:
        """All functions, by their address."""
        table, frames = self.by_name[".eh_frame_hdr"], self.by_name[".eh_frame"]
        (number,) = struct.unpack_from("<I", self.content, table.offset + 8)
        for start, frame in struct.iter_unpack(
            "<ii", self.content[table.offset + 12 : table.offset + 12 + 8 * number]
        ):
            entry = frames.offset + table.address + frame - frames.address
            (size,) = struct.unpack_from("<I", self.content, entry + 12)
            yield _Function(table.address + start, size)

    def pointers(self) -> dict[int, int]:
        """The constant pointers of the file, by their place in memory."""
        section = self.by_name[".rela.dyn"]
        content = self.content[section.offset : section.offset + section.size]
        return {
            at: address
            for at, kind, address in struct.iter_unpack("<QQq", content)
            if kind & 0xFFFFFFFF == _RELATIVE
        }

    def word(self, address: int) -> int | None:
        """A signed word among the constant data with pointers."""
        found = self.by_name[".data.rel.ro"]
        if address not in found:
            return None
        (value,) = struct.unpack_from("<q", self.content, found.offset + address - found.address)
        return int(value)


def add_symbols(envoy: Path, named: Path) -> None:
    """Write a copy of an Envoy in which every function has a symbol."""
    elf = _Elf(envoy.read_bytes())
    names = _virtual_functions(elf)
    texts, symbols = bytearray(b"\0"), bytearray(_SYMBOL.size)
    for each in elf.functions():
        index = next((i for i, s in enumerate(elf.sections) if _holds(s, each.start)), None)
        if index is not None:
            symbols += _SYMBOL.pack(len(texts), _LOCAL_FUNCTION, 0, index, each.start, each.size)
            texts += f"{names.get(each.start, 'function')}.{each.start:x}".encode() + b"\0"
    named.write_bytes(_with_symbols(elf, bytes(symbols), bytes(texts)))
    named.chmod(0o755)


def _holds(section: _Section, start: int) -> bool:
    return bool(section.flags & _CODE) and start in section


def _virtual_functions(elf: _Elf) -> dict[int, str]:
    """Names of virtual functions. One that several classes share has the name of its base."""
    pointers = elf.pointers()
    classes = _classes(elf, pointers)
    code = elf.by_name[".text"]
    found: dict[int, tuple[bool, int, str]] = {}
    for at, address in pointers.items():
        to_top = elf.word(at - 8)
        if address not in classes or at - 8 in pointers or to_top is None or to_top > 0:
            continue
        for slot in count():
            function = pointers.get(at + 8 * (slot + 1), 0)
            if function not in code:
                break
            name = f"{classes[address]}::v{slot}"
            # Those of the class itself come before those of its other bases.
            candidate = (to_top != 0, len(name), name)
            found[function] = min(found.get(function, candidate), candidate)
    return {function: name for function, (_, _, name) in found.items()}


def _classes(elf: _Elf, pointers: dict[int, int]) -> dict[int, str]:
    """The names of classes, by the address of their type information."""
    mangled: dict[int, bytes] = {}
    for at in pointers:
        offset = elf.offset(pointers.get(at + 8, 0))
        if offset is not None and _MANGLED.fullmatch(text := elf.string(offset)):
            mangled[at] = text
    texts = b"\n".join(mangled.values())
    shown = subprocess.run(["c++filt", "-t"], input=texts, stdout=subprocess.PIPE, check=True)
    names = (re.sub(r"[^\w:<>,~()]+", "_", line) for line in shown.stdout.decode().splitlines())
    return dict(zip(mangled, names, strict=True))


def _with_symbols(elf: _Elf, symbols: bytes, texts: bytes) -> bytes:
    """The file with the sections `.symtab` and `.strtab` at its end."""
    content = bytearray(elf.content)

    def append(block: bytes) -> int:
        content.extend(bytes(-len(content) % 16))
        content.extend(block)
        return len(content) - len(block)

    sections = list(elf.sections)
    old = sections[elf.names_index]
    names = elf.content[old.offset : old.offset + old.size]
    more = names + b".symtab\0.strtab\0"
    sections[elf.names_index] = old._replace(offset=append(more), size=len(more))
    link = len(sections) + 1
    number = len(symbols) // _SYMBOL.size
    sections.append(
        _Section(len(names), 2, 0, 0, append(symbols), len(symbols), link, number, 8, _SYMBOL.size)
    )
    sections.append(_Section(len(names) + 8, 3, 0, 0, append(texts), len(texts), 0, 0, 1, 0))
    at = append(b"".join(_SECTION.pack(*each) for each in sections))
    struct.pack_into("<Q", content, _HEADERS_AT, at)
    struct.pack_into("<H", content, _NUMBERS_AT + 2, len(sections))
    return bytes(content)
