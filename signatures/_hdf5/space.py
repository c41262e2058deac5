"""Space: the address space of one HDF5 file. Bounded reads, checksums, and what was found on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from imaging.extent import Extent
from imaging.window import Window
from signatures.verdict import Finding, Grade

MAX_STRUCTURE_BYTES = 1 << 26  # no single piece of metadata is larger; raw data is never read as one
MAX_METADATA_BYTES = 1 << 32  # read in all for one file: far more than any has, and seconds to read
MAX_INFLATED_BYTES = 1 << 37
MAX_FINDINGS = 200
MAX_REMARKS = 20  # of one kind: a thousand external links must not hide what is broken
CHECKSUM_BYTES = 4


class Damage(Exception):  # noqa: N818 - the field's word
    """A structure is not what it must be. Never leaves these modules: the walk makes it a Finding and goes on."""

    def __init__(self, code: str, at_bytes: int | None, detail: str = "") -> None:
        super().__init__(code)
        self.finding = Finding(code=code, offset_bytes=at_bytes, detail=detail)


@dataclass(slots=True, kw_only=True)
class Space:
    """One file's addresses, as its superblock declares them, over a window.

    Attributes:
        window: the file, from its first byte (a user block included).
        base_bytes: what every address is relative to.
        end_bytes: the end-of-file address, in the window.
        address_bytes: size of an address.
        length_bytes: size of a length.
        findings: what was noticed, at most `MAX_FINDINGS`.
        damaged: whether a structure inside the file is broken.
        cut: whether a structure runs past the end of the window, though not past the end-of-file address.
        lost_objects: how many groups and datasets a name leads to that cannot be read; what lies below is not counted.
        groups_with_lost_names: how many groups have names that could not all be read.
        unproven: whether something keeps the file from INTACT.
        reach_bytes: end of the last structure or stored data seen.
        maybe_open: whether the writer may never have closed the file, so that its end-of-file address may be too small.
        spread: whether its driver kept data in other files.
        group_leaf_k: half the room of a symbol table node.
        group_internal_k: half the room of a node of a group's version-1 tree.
        chunk_k: half the room of a node of a version-1 chunk tree.
        inflate_left_bytes: how much may still be inflated to compare checksums.
        metadata_left_bytes: how much metadata may still be read.
        data_read_bytes: stored data read so far to compare checksums; overlapping chunks would be read over and over.
        collections: global heaps read so far, by address.
        take_shared: returns a message of the shared message table (its kind, its heap id) as bytes and where they lie.
    """

    window: Window
    base_bytes: int
    end_bytes: int
    address_bytes: int
    length_bytes: int
    findings: list[Finding] = field(default_factory=list)
    damaged: bool = False
    cut: bool = False
    lost_objects: int = 0
    groups_with_lost_names: int = 0
    unproven: bool = False
    reach_bytes: int = 0
    maybe_open: bool = False
    spread: bool = False
    group_leaf_k: int = 4
    group_internal_k: int = 16
    chunk_k: int = 32
    inflate_left_bytes: int = MAX_INFLATED_BYTES
    metadata_left_bytes: int = MAX_METADATA_BYTES
    data_read_bytes: int = 0
    collections: dict[int, dict[int, bytes]] = field(default_factory=dict)
    take_shared: Callable[[int, bytes], tuple[bytes, int]] | None = None

    def at(self, address: int) -> int:
        """Return where in the window an address is."""
        return self.base_bytes + address

    def read(self, address: int, size_bytes: int, what: str) -> bytes:
        """Return exactly the bytes of a structure.

        Raises:
            Damage: they are not all in the window, or are more than any structure has.
        """
        at_bytes = self.base_bytes + address
        self.metadata_left_bytes -= size_bytes
        if size_bytes > MAX_STRUCTURE_BYTES or self.metadata_left_bytes < 0:
            raise Damage("structure-size", at_bytes, f"{what} claims {size_bytes} bytes")
        content = self.window.read_at(at_bytes, size_bytes)
        if len(content) < size_bytes:
            if at_bytes + size_bytes <= self.end_bytes:
                self.cut = True
                raise Damage("structure-cut", at_bytes, f"{what} lies beyond the end of what is there")
            raise Damage("address-beyond-end", at_bytes, f"{what} lies beyond the end of the file")
        return content

    def reached(self, address: int, size_bytes: int) -> None:
        """Remember that the file holds at least these bytes."""
        self.reach_bytes = max(self.reach_bytes, self.base_bytes + address + size_bytes)

    def read_signed(self, address: int, size_bytes: int, signature: bytes, what: str) -> bytes:
        """Return a structure that begins with `signature`, without a checksum of its own."""
        content = self.read(address, size_bytes, what)
        if not content.startswith(signature):
            raise Damage("signature-missing", self.at(address), f"{what} does not begin with {signature!r}")
        self.reached(address, size_bytes)
        return content

    def read_sealed(self, address: int, size_bytes: int, signature: bytes, what: str) -> bytes:
        """Return a structure without the lookup3 checksum at its end, which is compared and reported."""
        content = self.read_signed(address, size_bytes, signature, what)
        self.check_seal(content, address, what)
        return content[:-CHECKSUM_BYTES]

    def check_seal(self, content: bytes, address: int, what: str) -> bool:
        """Compare the last four bytes with lookup3 over the others; a mismatch becomes a finding."""
        if lookup3(content[:-CHECKSUM_BYTES]) == int.from_bytes(content[-CHECKSUM_BYTES:], "little"):
            return True
        self.damage(Damage("metadata-checksum", self.at(address), f"the checksum of {what} does not agree"))
        return False

    def grade_extent(self, extent: Extent, name: str) -> Grade:
        """Return what can be said of stored bytes from where they lie alone: CONSISTENT if they are all there.

        What the drive never gave is judge's to tell, for all formats alike.
        """
        if extent.end_bytes > self.end_bytes and self.spread:
            return Grade.TRUNCATED
        if extent.end_bytes > self.end_bytes and not self.maybe_open:
            self.damage(Damage("data-beyond-end", extent.offset_bytes, f"{name}: its data lies beyond the file's end"))
            return Grade.DAMAGED
        self.reach_bytes = max(self.reach_bytes, extent.end_bytes)
        if extent.end_bytes > self.window.size_bytes:
            self.cut = True
            return Grade.TRUNCATED
        return Grade.CONSISTENT

    def spend_data(self, extent: Extent, name: str) -> None:
        """Account for stored data that is to be read.

        Raises:
            Damage: more is read than the file has, which happens only where chunks overlap.
        """
        self.data_read_bytes += extent.size_bytes
        if self.data_read_bytes > max(self.end_bytes, self.reach_bytes):
            raise Damage("data-overlap", extent.offset_bytes, f"{name}: its chunks take more room than the file has")

    def damage(self, damage: Damage) -> None:
        """Keep a Damage as a finding that lowers the grade."""
        self.damaged = True
        self.add(damage.finding)

    def remark(self, code: str, at_bytes: int | None, detail: str) -> None:
        """Keep a finding that does not lower the grade; of one kind not too many of them."""
        finding = Finding(code=code, offset_bytes=at_bytes, detail=detail)
        alike = [known for known in self.findings if known.code == code]
        if finding in alike or len(alike) > MAX_REMARKS:
            return
        if len(alike) == MAX_REMARKS:
            finding = Finding(code=code, detail="there are more of this kind, which are left out")
        self.add(finding)

    def add(self, finding: Finding) -> None:
        """Keep a finding, once, and not too many of them."""
        if len(self.findings) > MAX_FINDINGS or finding in self.findings:
            return
        if len(self.findings) == MAX_FINDINGS:
            finding = Finding(code="findings-left-out", detail=f"only the first {MAX_FINDINGS} findings are listed")
        self.findings.append(finding)


def lookup3(content: bytes) -> int:
    """Return the lookup3 checksum of `content`."""
    return _kernel()(np.frombuffer(content, dtype=np.uint8))


def _kernel() -> Callable[[object], int]:
    from signatures.kernels.checksums import lookup3 as kernel  # numba takes most of a second to load

    return kernel  # type: ignore[no-any-return,unused-ignore]


class Fields:
    """The fields of one structure in order, each bounded by the structure's end.

    HDF5's messages change shape with their own first bytes and with the file's sizes, which a declared struct cannot
    follow cheaply; this cursor runs over a copy in memory, never over the file.
    """

    __slots__ = ("at_bytes", "content", "position", "space")

    def __init__(self, space: Space, content: bytes, at_bytes: int, position: int = 0) -> None:
        self.space = space
        self.content = content
        self.at_bytes = at_bytes
        self.position = position

    @property
    def left(self) -> int:
        """How many bytes have not been taken."""
        return len(self.content) - self.position

    def raw(self, size_bytes: int) -> bytes:
        """Take bytes.

        Raises:
            Damage: the structure is shorter.
        """
        stop = self.position + size_bytes
        if size_bytes < 0 or stop > len(self.content):
            raise Damage("structure-short", self.at_bytes + self.position, "a structure ends before its fields do")
        piece = self.content[self.position : stop]
        self.position = stop
        return piece

    def number(self, size_bytes: int) -> int:
        """Take a little-endian unsigned integer."""
        stop = self.position + size_bytes
        if stop > len(self.content):
            raise Damage("structure-short", self.at_bytes + self.position, "a structure ends before its fields do")
        piece = self.content[self.position : stop]
        self.position = stop
        return int.from_bytes(piece, "little")

    def length(self) -> int:
        """Take a length."""
        return self.number(self.space.length_bytes)

    def address(self) -> int | None:
        """Take an address; None when it is the undefined one (all bits set)."""
        size_bytes = self.space.address_bytes
        address = self.number(size_bytes)
        return None if address == (1 << 8 * size_bytes) - 1 else address

    def text_to_zero(self, *, pad_to: int = 1) -> bytes:
        """Take a null-terminated string, then padding to a multiple of `pad_to` of its own length."""
        stop = self.content.find(b"\0", self.position)
        if stop < 0:
            raise Damage("structure-short", self.at_bytes + self.position, "a name has no end")
        piece = self.content[self.position : stop]
        self.position += -(-(len(piece) + 1) // pad_to) * pad_to
        return piece

    def expect(self, wanted: bool, code: str, detail: str = "") -> None:
        """Check evidence.

        Raises:
            Damage: it is not as wanted.
        """
        if not wanted:
            raise Damage(code, self.at_bytes + self.position, detail)
