"""The entries of a TensorFlow checkpoint index, read block by block."""

from __future__ import annotations

from imaging.window import Window
from signatures._snappy import beginning
from signatures._table import Footer, Handle, TableError, block_entries, prefixed_entries, read_block, read_handle
from signatures._tf_bundle import BundleEntry, read_bundle_header, read_entry
from signatures.verdict import Finding

MAX_ENTRIES = 500_000
MAX_FINDINGS = 100
HEAD_LOOK_BYTES = 64
SALVAGE_BYTES = 1 << 20
CRC_BYTES = 4


class Index:
    """Reads the blocks of one index and keeps what is wrong with them."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.findings: list[Finding] = []
        self.entries: list[BundleEntry] = []
        self.shards = 0
        self.big_endian = False
        self.blocks = 0
        self.index_crc = b""
        self._last_key: bytes | None = None

    def note(self, code: str, at_bytes: int, detail: str) -> None:
        """Add a finding; past `MAX_FINDINGS` only the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, offset_bytes=at_bytes, detail=detail))

    def read(self, footer: Footer) -> None:
        """Read every block: the data blocks must tile the file up to the metaindex."""
        self._block(footer.metaindex)
        self.index_crc = self.window.read_at(footer.index.end_bytes - CRC_BYTES, CRC_BYTES)
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


def is_head(raw: bytes) -> bool:
    """Tell whether a file's first bytes are an entry with an empty key and a bundle header, plain or compressed."""
    return _is_plain_head(raw) or _is_plain_head(beginning(raw, limit_bytes=HEAD_LOOK_BYTES))


def _is_plain_head(raw: bytes) -> bool:
    size_bytes = raw[2] if len(raw) > 2 else 0
    if raw[:2] != b"\0\0" or not 4 <= size_bytes < HEAD_LOOK_BYTES - 3:
        return False
    try:
        read_bundle_header(raw[3 : 3 + size_bytes])
    except TableError:
        return False
    return True


def name_facts(index: Index) -> dict[str, object]:
    """Return the name that an index and its data files share: TensorFlow finds them by it, whatever it is."""
    if not index.index_crc:
        return {}
    return {"name": f"checkpoint-{index.index_crc.hex()}", "name_source": "checksum of the index"}
