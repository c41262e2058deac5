"""TensorFlow checkpoint index: a table of which tensor lies where in the data files, every block under CRC-32C.

The file ends with a footer that says where its own last block is, and so where it begins: it is found from the footer
alone, or from its head. It holds no tensor bytes; each entry has the CRC-32C of its tensor, by which the data files
can be put together. Facts: TensorFlow's tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Iterable

from imaging.source import Source
from imaging.window import Window
from signatures._table import (
    FOOTER_BYTES,
    FOOTER_MAGIC,
    Footer,
    Handle,
    TableError,
    block_entries,
    find_footer,
    prefixed_entries,
    read_block,
    read_footer,
    read_handle,
)
from signatures._tf_bundle import BundleEntry, read_bundle_header, read_entry
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

MAX_ENTRIES = 500_000
MAX_LISTED = 20_000
MAX_FINDINGS = 100
HEAD_LOOK_BYTES = 64
SALVAGE_BYTES = 1 << 20
MAX_HEAD_SHARDS = 8  # with more data files, or a later producer, the footer alone finds the file
FOOTER_NAME = "footer"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


class _Index:
    """Reads the blocks of one index and keeps what is wrong with them."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.findings: list[Finding] = []
        self.entries: list[BundleEntry] = []
        self.shards = 0
        self.big_endian = False
        self.blocks = 0
        self._last_key: bytes | None = None

    def note(self, code: str, at_bytes: int, detail: str) -> None:
        """Add a finding; past `MAX_FINDINGS` only the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, offset_bytes=at_bytes, detail=detail))

    def read(self, footer: Footer) -> None:
        """Read every block: the data blocks must tile the file up to the metaindex."""
        self._block(footer.metaindex)
        at_bytes = 0
        for _, value in self._block(footer.index):
            try:
                handle, _ = read_handle(value)
            except TableError as error:
                self.note(error.code, footer.index.offset_bytes, "the index names a block that cannot be")
                continue
            if handle.offset_bytes != at_bytes:
                self.note("block-gap", handle.offset_bytes, f"a block should begin at {at_bytes:#x}")
                if handle.offset_bytes < at_bytes:
                    return
            at_bytes = handle.end_bytes
            for key, entry in self._block(handle):
                self._take(handle, key, entry)
        if at_bytes != footer.metaindex.offset_bytes:
            self.note("block-gap", at_bytes, "the data blocks do not reach to the metaindex")

    def salvage(self) -> None:
        """Read entries from the head on, as far as they keep the grammar, without a CRC that could prove them."""
        head = Handle(offset_bytes=0, size_bytes=0)
        try:
            for key, entry in prefixed_entries(self.window.read_at(0, SALVAGE_BYTES)):
                if self._last_key is not None and key <= self._last_key:
                    return
                self._take(head, key, entry)
        except TableError:
            return

    def _block(self, handle: Handle) -> list[tuple[bytes, bytes]]:
        """Return a block's entries; none, with a finding, when its CRC-32C does not agree."""
        try:
            raw = read_block(self.window, handle)
            self.blocks += 1
            return list(block_entries(raw))
        except TableError as error:
            detail = f"the block of {handle.size_bytes} bytes cannot be read"
            self.note(error.code, handle.offset_bytes, detail)
            return []

    def _take(self, block: Handle, key: bytes, raw: bytes) -> None:
        if self._last_key is not None and key <= self._last_key:
            self.note("key-order", block.offset_bytes, f"key {key[:100]!r} does not follow the one before")
        self._last_key = key
        try:
            if not key:
                self.shards, self.big_endian = read_bundle_header(raw)
                return
            entry = read_entry(key, raw)
        except TableError as error:
            self.note(error.code, block.offset_bytes, f"the entry of {key[:100]!r} cannot be read")
            return
        if not entry.fits:
            self.note("tensor-size", block.offset_bytes, f"{entry.name[:200]!r} is not {entry.size_bytes} bytes long")
        if len(self.entries) < MAX_ENTRIES:
            self.entries.append(entry)


def validate(window: Window) -> Verdict:
    """Judge an index that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    if not _is_head(window.read_at(0, HEAD_LOOK_BYTES)):
        return rejected("head", at_bytes=0)
    index = _Index(window)
    footer = find_footer(window)
    if footer is not None:
        index.read(footer)
        codes = {finding.code for finding in index.findings}
        grade = Grade.DAMAGED if codes - {"compressed"} else Grade.UNDECIDED if codes else Grade.CONSISTENT
        return _verdict(index, grade, footer.end_bytes)
    index.salvage()
    if not index.entries or index.findings:
        return rejected("no-footer", at_bytes=0)
    index.note("cut-short", window.size_bytes, "the footer was not found; the entries are under no checksum")
    return _verdict(index, Grade.TRUNCATED, window.size_bytes if window.size_bytes < SALVAGE_BYTES else SALVAGE_BYTES)


def _verdict(index: _Index, grade: Grade, size_bytes: int) -> Verdict:
    data_bytes: dict[int, int] = {}
    for entry in index.entries:
        data_bytes[entry.shard] = max(data_bytes.get(entry.shard, 0), entry.offset_bytes + entry.size_bytes)
    told = ("name", "dtype", "shape", "shard", "offset_bytes", "size_bytes", "masked_crc32c")
    facts: dict[str, object] = {
        "shards": index.shards,
        "big_endian": index.big_endian,
        "blocks": index.blocks,
        "data_files": {
            f"data-{shard:05d}-of-{index.shards:05d}": size for shard, size in sorted(data_bytes.items())[:1000]
        },
        "entries": [
            {key: list(entry.shape) if key == "shape" else getattr(entry, key) for key in told}
            for entry in index.entries[:MAX_LISTED]
        ],
        "object_graph": any(entry.name == OBJECT_GRAPH for entry in index.entries),
    }
    tensors = tuple(Tensor(name=entry.name, dtype=entry.dtype, shape=entry.shape, layout=()) for entry in index.entries)
    return Verdict(grade=grade, size_bytes=size_bytes, findings=tuple(index.findings), tensors=tensors, facts=facts)


def _is_head(raw: bytes) -> bool:
    """Tell whether a file's first bytes are an entry with an empty key and a bundle header."""
    size_bytes = raw[2] if len(raw) > 2 else 0
    if raw[:2] != b"\0\0" or not 4 <= size_bytes < HEAD_LOOK_BYTES - 3:
        return False
    try:
        read_bundle_header(raw[3 : 3 + size_bytes])
    except TableError:
        return False
    return True


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the start that a footer tells, or the hit on a head, when a bundle header is there."""
    start = hit_offset_bytes - pattern.offset_bytes
    if pattern.name == FOOTER_NAME:
        end_bytes = hit_offset_bytes + len(FOOTER_MAGIC)
        footer = read_footer(source.read_at(end_bytes - FOOTER_BYTES, FOOTER_BYTES)) if end_bytes >= 48 else None
        start = end_bytes - footer.end_bytes if footer is not None else -1
    if start >= 0 and _is_head(source.read_at(start, HEAD_LOOK_BYTES)):
        yield start


FORMAT = Format(
    name="tf_checkpoint_index",
    suffix=".index",
    title="TensorFlow checkpoint index",
    patterns=(
        Pattern(bytes=FOOTER_MAGIC, name=FOOTER_NAME),
        *(
            Pattern(bytes=bytes((0, 0, 6, 8, shards)) + b"\x1a\x02\x08\x01", name=f"head-{shards}")
            for shards in range(1, MAX_HEAD_SHARDS + 1)
        ),
    ),
    validate=validate,
    starts=starts,
    proves="every block of the index is under CRC-32C; it holds no tensors, but the CRC-32C of each",
)
