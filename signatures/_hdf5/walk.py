"""The walk: every object that can be reached from the root group, each once, in the order h5py visits them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from signatures._hdf5.datatype import read_datatype
from signatures._hdf5.header import DATASPACE, DATATYPE, LAYOUT, MODIFIED, MODIFIED_OLD, ObjectHeader, read_header
from signatures._hdf5.links import Link, Table, is_group, read_links, table_of
from signatures._hdf5.shared import read_part
from signatures._hdf5.space import Damage, Space

TREE = b"TREE\0"  # over the names of a group
MAX_LINKS = 1 << 22
MAX_DEPTH = 512
MAX_PATH_BYTES = 1 << 14
MAX_NAMES_BYTES = 1 << 28  # all paths together


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """An object and the first path on which it was found; "" is the root. `links` are a group's names."""

    path: str
    header: ObjectHeader
    links: tuple[str, ...]
    is_group: bool


def walk(space: Space, root: int, root_table: Table | None = None) -> Iterator[FoundObject]:
    """Yield the objects reachable from the header at `root`, depth first, names in byte order.

    What is broken is reported in `space` and left out. `root_table` is where the superblock says that the root's tree
    and heap are.
    """
    stack: list[tuple[bytes, Link, int]] = [(b"", Link(name=b"", address=root, table=root_table), 0)]
    seen: set[int] = set()
    links_left, names_left_bytes = MAX_LINKS, MAX_NAMES_BYTES
    while stack:
        above, link, depth = stack.pop()
        name, address = link.name, link.address
        if address is None or address in seen:  # a hard link to what has been met under another name
            continue
        path = above + b"/" + name if above else name
        names_left_bytes -= len(path)
        if names_left_bytes < 0 or links_left < 0 or depth > MAX_DEPTH or len(path) > MAX_PATH_BYTES:
            space.damage(Damage("too-many-objects", space.at(address), "more or deeper groups than any file has"))
            continue
        seen.add(address)
        try:
            header = read_header(space, address)
            _check_object(space, link, header)
        except Damage as damage:
            space.damage(damage)
            space.lost_objects += 1
            continue
        group, lost = is_group(header), _lost_table(space, link, header)
        links = _links(space, header, lost) if group or lost else []
        links_left -= len(links)
        names = tuple(text(link.name) for link in links)
        yield FoundObject(path=text(path), header=header, links=names, is_group=group or lost is not None)
        for link in reversed(links):
            if link.is_external:
                space.remark("external-link", space.at(address), f"{text(link.name)} leads into another file")
            if link.address is None or link.address in seen:
                continue
            stack.append((path, link, depth + 1))


def _lost_table(space: Space, link: Link, header: ObjectHeader) -> Table | None:
    """Return the tree and heap that its parent tells of an old group, where the rest of its header is not there."""
    if link.table is None or header.complete or is_group(header) or header.first(LAYOUT):
        return None
    tree = link.table[0]
    is_there = tree is not None and space.window.read_at(space.at(tree), len(TREE)) == TREE
    return link.table if is_there else None


def _links(space: Space, header: ObjectHeader, lost: Table | None) -> list[Link]:
    """Return a group's links, and remember where some of them are lost."""
    known, space.damaged = space.damaged, False
    links = read_links(space, header, lost)
    space.groups_with_lost_names += space.damaged
    space.damaged |= known
    return links


def _check_object(space: Space, link: Link, header: ObjectHeader) -> None:
    """Report an object that is nothing, and an old group whose tree and heap are not those its parent knows."""
    if not is_group(header) and header.first(LAYOUT) is None and header.complete:
        datatype = header.first(DATATYPE)  # alone, it is a committed datatype
        if datatype is None or header.first(DATASPACE) is not None:
            raise Damage("object-header", space.at(header.address), "an object that is no group, dataset or datatype")
        read_part(space, datatype, read_datatype)
    for message in header.messages:
        if message.kind == MODIFIED and message.body[:1] != b"\x01":
            raise Damage("object-header", message.at_bytes, "a time of modification of no known version")
        if message.kind == MODIFIED_OLD and not message.body[:14].isdigit():
            raise Damage("object-header", message.at_bytes, "a time of modification that is no time")
    table = table_of(space, header)  # None: the group was made a new one; its parent's entry stays as it was
    if link.table is not None and table is not None and table != link.table:
        space.damage(
            Damage("link", space.at(header.address), "a group's tree and heap differ from what its parent says")
        )


def text(name: bytes) -> str:
    """Return a name from a file as text; bytes that are no UTF-8 are escaped."""
    return name.decode("utf-8", "backslashreplace")
