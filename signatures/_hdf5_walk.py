"""The walk: every object that can be reached from the root group, each once, in the order h5py visits them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from signatures._hdf5_header import ObjectHeader, read_header
from signatures._hdf5_links import is_group, read_links
from signatures._hdf5_space import Damage, Space

MAX_OBJECTS = 1 << 20
MAX_DEPTH = 512
MAX_PATH_BYTES = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """An object and the first path on which it was found; "" is the root."""

    path: str
    header: ObjectHeader
    links: tuple[str, ...]

    @property
    def is_group(self) -> bool:
        """Whether it is a group."""
        return is_group(self.header)


def walk(space: Space, root: int) -> Iterator[FoundObject]:
    """Yield the objects reachable from the header at `root`, depth first, names in byte order.

    What is broken is reported in `space` and left out.
    """
    stack: list[tuple[bytes, int, int]] = [(b"", root, 0)]
    seen: set[int] = set()
    while stack:
        path, address, depth = stack.pop()
        if address in seen:  # a hard link to what has been met under another name
            continue
        seen.add(address)
        try:
            header = read_header(space, address)
        except Damage as damage:
            space.damage(damage)
            continue
        links = read_links(space, header) if is_group(header) else []
        yield FoundObject(path=text(path), header=header, links=tuple(text(link.name) for link in links))
        for link in reversed(links):
            if link.is_external:
                space.remark("external-link", space.at(address), f"{text(link.name)} leads into another file")
            if link.address is None or link.address in seen:
                continue
            child = path + b"/" + link.name if path else link.name
            if depth >= MAX_DEPTH or len(child) > MAX_PATH_BYTES or len(seen) >= MAX_OBJECTS:
                space.damage(Damage("too-deep", space.at(address), "more objects or deeper groups than any file has"))
                continue
            stack.append((child, link.address, depth + 1))


def text(name: bytes) -> str:
    """Return a name from a file as text; bytes that are no UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace")
