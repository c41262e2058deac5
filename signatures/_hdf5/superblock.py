"""The superblock: where an HDF5 file starts, ends and keeps its root group (file format specification, II.A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from construct import Const, Int8ul, Int16ul, Int32ul, Struct

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_SUPERBLOCK_BYTES = 160  # version 1 with addresses of 8 bytes takes 100
FIRST_USER_BLOCK_BYTES = 512
SIZES = (2, 4, 8)  # of addresses and lengths; the specification also allows 16 and 32, which no writer uses
_ROOT_ENTRY_SCRATCH_BYTES = 16
OPEN_FOR_WRITE = 1
_KNOWN_FLAGS = 0x07
VERSION_WITH_MARKS = 3

_OLD = Struct(
    "signature" / Const(SIGNATURE),
    "version" / Int8ul,
    "free_space_version" / Int8ul,
    "root_version" / Int8ul,
    "reserved_1" / Int8ul,
    "shared_header_version" / Int8ul,
    "address_bytes" / Int8ul,
    "length_bytes" / Int8ul,
    "reserved_2" / Int8ul,
    "group_leaf_k" / Int16ul,
    "group_internal_k" / Int16ul,
    "flags" / Int32ul,
).compile()
_OLD_BYTES = 24
_NEW = Struct(
    "signature" / Const(SIGNATURE),
    "version" / Int8ul,
    "address_bytes" / Int8ul,
    "length_bytes" / Int8ul,
    "flags" / Int8ul,
).compile()
_NEW_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """What the superblock says; addresses as stored, None for the undefined address.

    Attributes:
        size_bytes: of the superblock itself.
        end: the end-of-file address (absolute, a user block included).
        root_table: tree and heap of the root group, where the superblock repeats them.
        odd: what no writer puts there, in words.
        sealed: whether its checksum agrees; None where the version has none.
    """

    version: int
    address_bytes: int
    length_bytes: int
    base: int
    end: int
    root: int
    extension: int | None
    driver: int | None
    flags: int
    size_bytes: int
    sealed: bool | None
    group_leaf_k: int = 4  # defaults of H5P_SYM_K and H5P_ISTORE_K, where the superblock does not say
    group_internal_k: int = 16
    chunk_k: int = 32
    root_table: tuple[int | None, int | None] | None = None
    odd: str = ""

    @property
    def maybe_open(self) -> bool:
        """Whether its flags say that a writer had it open; old writers leave the bit in files they closed."""
        return bool(self.flags & OPEN_FOR_WRITE)

    @property
    def surely_open(self) -> bool:
        """Whether the writer never closed the file: from version 3 on the flag means it, and readers refuse it."""
        return self.version >= VERSION_WITH_MARKS and self.maybe_open


def parse_superblock(head: bytes, lookup3: Callable[[bytes], int]) -> Superblock | str:
    """Return the superblock at the start of `head`, or the code of the reason why there is none.

    Args:
        head: up to `MAX_SUPERBLOCK_BYTES` bytes.
        lookup3: the checksum; called for versions 2 and 3 only, after everything else is plausible.
    """
    if not head.startswith(SIGNATURE):
        return "signature"
    if len(head) < _OLD_BYTES:
        return "superblock-cut"
    version = head[len(SIGNATURE)]
    if version in (0, 1):
        return _parse_old(head)
    if version in (2, 3):
        return _parse_new(head, lookup3)
    return "superblock-version"


def _parse_old(head: bytes) -> Superblock | str:
    fixed = _OLD.parse(head)
    if fixed.address_bytes not in SIZES or fixed.length_bytes not in SIZES:
        return "superblock-sizes"
    if fixed.free_space_version or fixed.root_version or fixed.shared_header_version:
        return "superblock-version"
    if fixed.reserved_1 or fixed.reserved_2 or not fixed.group_leaf_k or not fixed.group_internal_k:
        return "superblock-reserved"
    size = fixed.address_bytes
    tail = _OLD_BYTES + (4 if fixed.version == 1 else 0)
    size_bytes = tail + 4 * size + fixed.length_bytes + size + 8 + _ROOT_ENTRY_SCRATCH_BYTES
    if len(head) < size_bytes:
        return "superblock-cut"
    base, free, end, driver = _numbers(head, tail, size, 4)
    (root,) = _numbers(head, tail + 4 * size + fixed.length_bytes, size, 1)
    if base is None or end is None or root is None or end <= base or root < size_bytes - 8:
        return "superblock-address"
    entry = tail + 5 * size + fixed.length_bytes
    cached = int.from_bytes(head[entry : entry + 4], "little")
    tree, heap = _numbers(head, entry + 8, size, 2)
    odd = "flags that no writer sets" if fixed.flags > _KNOWN_FLAGS else ""
    odd = odd or ("an address of free space, which was never used" if free is not None else "")
    odd = odd or ("a root entry of no known kind" if cached > 1 else "")
    return Superblock(
        version=fixed.version,
        root_table=(tree, heap) if cached == 1 else None,
        odd=odd,
        address_bytes=size,
        length_bytes=fixed.length_bytes,
        base=base,
        end=end,
        root=root,
        extension=None,
        driver=driver,
        flags=fixed.flags,
        size_bytes=size_bytes,
        sealed=None,
        group_leaf_k=fixed.group_leaf_k,
        group_internal_k=fixed.group_internal_k,
        chunk_k=int.from_bytes(head[_OLD_BYTES : _OLD_BYTES + 2], "little") if fixed.version else 32,
    )


def _parse_new(head: bytes, lookup3: Callable[[bytes], int]) -> Superblock | str:
    fixed = _NEW.parse(head)
    if fixed.address_bytes not in SIZES or fixed.length_bytes not in SIZES:
        return "superblock-sizes"
    size = fixed.address_bytes
    size_bytes = _NEW_BYTES + 4 * size + 4
    if len(head) < size_bytes:
        return "superblock-cut"
    base, extension, end, root = _numbers(head, _NEW_BYTES, size, 4)
    if base is None or end is None or root is None or end <= base or root < size_bytes:
        return "superblock-address"
    stored = int.from_bytes(head[size_bytes - 4 : size_bytes], "little")
    return Superblock(
        version=fixed.version,
        address_bytes=size,
        length_bytes=fixed.length_bytes,
        base=base,
        end=end,
        root=root,
        extension=extension,
        driver=None,
        flags=fixed.flags,
        size_bytes=size_bytes,
        sealed=lookup3(head[: size_bytes - 4]) == stored,
    )


def _numbers(head: bytes, at: int, size_bytes: int, count: int) -> list[int | None]:
    """Return `count` addresses in a row; None for the undefined one."""
    undefined = (1 << 8 * size_bytes) - 1
    numbers = (
        int.from_bytes(head[p : p + size_bytes], "little") for p in range(at, at + count * size_bytes, size_bytes)
    )
    return [None if number == undefined else number for number in numbers]


def user_block_sizes(limit_bytes: int) -> list[int]:
    """Return where a superblock may lie: 0, then 512 and its doublings, below `limit_bytes`."""
    places = [0]
    place = FIRST_USER_BLOCK_BYTES
    while place < limit_bytes:
        places.append(place)
        place *= 2
    return places
