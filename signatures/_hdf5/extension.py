"""What stands beside the superblock: its extension, the driver's information, the shared message table."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from signatures._hdf5.btree2 import read_records
from signatures._hdf5.fractal import FractalHeap, open_heap
from signatures._hdf5.freespace import check_free_space
from signatures._hdf5.header import DRIVER_INFO, FILE_SPACE, SHARED_TABLE, TREE_SIZES, Message, read_header
from signatures._hdf5.space import CHECKSUM_BYTES, Damage, Fields, Space
from signatures._hdf5.superblock import Superblock

_DRIVER_HEAD_BYTES = 16
_FAMILY, _MULTI = b"NCSAfami", b"NCSAmult"
_LIST_ENTRY_HEAD_BYTES = 5  # location, hash
_SHARED_TREE = 7
_ALL_PERSIST, _OLD_MANAGERS, _MANAGERS = 1, 6, 12  # of free space: one a kind of use; those of pages apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """How the file is spread: `member_bytes` is the size of each member of a family."""

    name: str
    member_bytes: int = 0


def read_extension(space: Space, superblock: Superblock) -> Driver | None:
    """Read the superblock's extension and driver block; broken ones are reported.

    Sets the room of tree nodes, and `space.take_shared` where the file has a shared message table.
    """
    driver: Driver | None = None
    try:
        if superblock.driver is not None:
            head = space.read(superblock.driver, _DRIVER_HEAD_BYTES, "the driver block")
            size_bytes = int.from_bytes(head[4:8], "little")
            body = (
                space.read(superblock.driver + _DRIVER_HEAD_BYTES, size_bytes, "the driver block")
                if size_bytes
                else b""
            )
            space.reached(superblock.driver, _DRIVER_HEAD_BYTES + size_bytes)
            driver = _driver(head[8:16], body)
        if superblock.extension is not None:
            for message in read_header(space, superblock.extension).messages:
                if message.kind == DRIVER_INFO:
                    fields = Fields(space, message.body, message.at_bytes, position=1)
                    name = fields.raw(8)
                    driver = _driver(name, fields.raw(fields.number(2)))
                elif message.kind == TREE_SIZES:
                    fields = Fields(space, message.body, message.at_bytes, position=1)
                    space.chunk_k, space.group_internal_k, space.group_leaf_k = (fields.number(2) for _ in range(3))
                elif message.kind == SHARED_TABLE:
                    _read_table(space, message)
                elif message.kind == FILE_SPACE:
                    _check_file_space(space, message)
    except Damage as damage:
        space.damage(damage)
    return driver


def _check_file_space(space: Space, message: Message) -> None:
    """Compare the checksums of the lists of free space that a file keeps beyond its closing."""
    fields = Fields(space, message.body, message.at_bytes)
    version, strategy = fields.number(1), fields.number(1)
    fields.expect(version <= 1, "file-space", "no file space information is here")
    if version == 0:  # HDF5 before 1.10
        persists, count = strategy == _ALL_PERSIST, _OLD_MANAGERS
        fields.length()
    else:
        persists, count = fields.number(1) != 0, _MANAGERS
        fields.raw(2 * space.length_bytes + 2 + space.address_bytes)
    for _ in range(count if persists else 0):
        address = fields.address()
        if address is not None:
            check_free_space(space, address)


def _driver(name: bytes, body: bytes) -> Driver | None:
    if name == _FAMILY:
        return Driver(name="family", member_bytes=int.from_bytes(body[:8], "little"))
    return Driver(name="multi") if name == _MULTI else None


@dataclass(slots=True, kw_only=True)
class SharedTable:
    """The heaps of the shared message table, by the kinds of message they hold (a bit each)."""

    space: Space
    at_bytes: int
    heaps: list[tuple[int, FractalHeap]]

    def take(self, kind: int, identifier: bytes) -> tuple[bytes, int]:
        """Return a message's bytes and where in the window they lie.

        Raises:
            Damage: it is not there.
        """
        for kinds, heap in self.heaps:
            if kinds >> kind & 1:
                return heap.take(identifier)
        raise Damage("shared-message", self.at_bytes, "no heap of the shared message table has such messages")


def _read_table(space: Space, message: Message) -> None:
    fields = Fields(space, message.body, message.at_bytes)
    version, address, count = fields.number(1), fields.address(), fields.number(1)
    fields.expect(version == 0 and address is not None, "shared-message", "no shared message table is here")
    address = address or 0
    entry_bytes = 14 + 2 * space.address_bytes
    table = space.read_sealed(address, 4 + count * entry_bytes + CHECKSUM_BYTES, b"SMTB", "the shared message table")
    entries = Fields(space, table, space.at(address), position=4)
    heaps: list[tuple[int, FractalHeap]] = []
    for _ in range(count):
        entries.number(1)
        is_tree, kinds, _smallest = entries.number(1), entries.number(2), entries.number(4)
        entries.raw(4)
        used, index, heap = entries.number(2), entries.address(), entries.address()
        if heap is not None:
            heaps.append((kinds, open_heap(space, heap)))
        if index is not None:
            _check_index(space, index, used, is_tree=bool(is_tree))
    space.take_shared = SharedTable(space=space, at_bytes=space.at(address), heaps=heaps).take


def _check_index(space: Space, address: int, used: int, *, is_tree: bool) -> None:
    """Compare the checksums of an index over shared messages."""
    if is_tree:
        deque(read_records(space, address, (_SHARED_TREE,)), maxlen=0)
        return
    entry_bytes = _LIST_ENTRY_HEAD_BYTES + max(12, 4 + space.address_bytes)
    space.read_sealed(address, 4 + used * entry_bytes + CHECKSUM_BYTES, b"SMLI", "a list of shared messages")
