"""Core ML weight.bin: the tensors of an ML program, one after another, each after a record of 64 bytes.

A record says where its own data begins, in bytes from the file's start: it locates itself, so that the file is found
from any of its records, and a broken one does not lose those after it. Names and shapes are in the model beside it.
Facts: files of coremltools 4 to 9 and its writer (MILBlob), every type below as that writer numbers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from construct import Bytes, Const, Int32ul, Int64ul, Struct

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

SENTINEL = b"\xef\xbe\xad\xde"
HEADER_BYTES = RECORD_BYTES = ALIGNMENT_BYTES = 64
VERSION = 2
MAX_RECORDS = 1_000_000
MAX_FILE_BYTES = 1 << 42
MAX_SEARCH_BYTES = 1 << 28  # for records after a broken one
SEARCH_BYTES = 1 << 20
MAX_FINDINGS = 100
MAX_DTYPE = 31  # of a record that is looked for: twice as many as are known

HEADER = Struct("count" / Int32ul, "version" / Int32ul, "zeros" / Bytes(56)).compile()
RECORD = Struct(
    "sentinel" / Const(SENTINEL),
    "dtype" / Int32ul,
    "size_bytes" / Int64ul,
    "data_offset_bytes" / Int64ul,
    "padding_bits" / Int64ul,  # of types under a byte; others leave whatever was in memory
).compile()
ROW = np.dtype(
    {
        "names": ["sentinel", "data_offset_bytes"],
        "formats": ["<u4", "<u8"],
        "offsets": [0, 16],
        "itemsize": RECORD_BYTES,
    }
)  # for looks at many places at once
TOLD_BYTES = 32  # of a record; the rest means nothing

DTYPES = {  # (name, bits an element)
    1: ("float16", 16), 2: ("float32", 32), 3: ("uint8", 8), 4: ("int8", 8), 6: ("int16", 16), 7: ("uint16", 16),
    8: ("int4", 4), 9: ("uint1", 1), 10: ("uint2", 2), 11: ("uint4", 4), 12: ("uint3", 3), 13: ("uint6", 6),
    14: ("int32", 32), 15: ("uint32", 32),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One record."""

    offset_bytes: int
    dtype: int
    size_bytes: int
    padding_bits: int

    @property
    def data(self) -> Extent:
        """Where its data lies."""
        return Extent(offset_bytes=self.offset_bytes + RECORD_BYTES, size_bytes=self.size_bytes)

    @property
    def next_bytes(self) -> int:
        """Where the next record is."""
        return -(-self.data.end_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    @property
    def elements(self) -> int | None:
        """How many elements it has; None when its size does not fit its type."""
        bits = DTYPES[self.dtype][1] if self.dtype in DTYPES else 8
        used_bits = self.size_bytes * 8 - (self.padding_bits if bits < 8 else 0)
        fits = used_bits >= 0 and used_bits % bits == 0 and (bits >= 8 or self.padding_bits < 8)
        return used_bits // bits if fits else None


def _parse(raw: bytes, offset_bytes: int | None = None) -> Blob | None:
    """Return the record in `raw`; None when it is none, or does not lie at `offset_bytes`, where that is given."""
    if len(raw) < TOLD_BYTES or not raw.startswith(SENTINEL):
        return None
    told = RECORD.parse(raw)
    where = told.data_offset_bytes - RECORD_BYTES
    if where < HEADER_BYTES or where % ALIGNMENT_BYTES or (offset_bytes is not None and where != offset_bytes):
        return None
    if where + RECORD_BYTES + told.size_bytes > MAX_FILE_BYTES or not 0 < told.dtype < 256:
        return None
    return Blob(offset_bytes=where, dtype=told.dtype, size_bytes=told.size_bytes, padding_bits=told.padding_bits)


def _count(raw: bytes) -> int:
    """Return how many records a header tells; 0 when it is no header."""
    if len(raw) < HEADER_BYTES:
        return 0
    header = HEADER.parse(raw)
    good = header.version == VERSION and not any(header.zeros) and header.count <= MAX_RECORDS
    return int(header.count) if good else 0


class _Walk:
    """Goes from record to record and keeps what is wrong."""

    def __init__(self, window: Window, count: int) -> None:
        self.window = window
        self.count = count
        self.end_bytes = HEADER_BYTES
        self.cut = False
        self.findings: list[Finding] = []
        self.blobs = list(self._blobs())

    def note(self, code: str, at_bytes: int | None, detail: str) -> None:
        """Add a finding; past `MAX_FINDINGS` only the first ones are kept."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, offset_bytes=at_bytes, detail=detail))

    def _blobs(self) -> Iterator[Blob]:
        found, at_bytes = 0, HEADER_BYTES
        while found < (self.count or MAX_RECORDS):
            blob = _parse(self.window.read_at(at_bytes, TOLD_BYTES), at_bytes)
            if blob is None:
                self.cut = at_bytes + TOLD_BYTES > self.window.size_bytes
                if not self.count or self.cut:
                    self.end_bytes = max(self.end_bytes, at_bytes + RECORD_BYTES if self.count else 0)
                    return
                self.note("record-lost", at_bytes, "no record where one should be")
                blob = self._search(at_bytes + ALIGNMENT_BYTES)
                if blob is None:
                    return
            yield blob
            found += 1
            self.end_bytes, at_bytes = blob.data.end_bytes, blob.next_bytes

    def _search(self, offset_bytes: int) -> Blob | None:
        """Return the next record from `offset_bytes` on that lies where it says."""
        end_bytes = min(self.window.size_bytes, offset_bytes + MAX_SEARCH_BYTES)
        while offset_bytes < end_bytes:
            chunk = self.window.read_at(offset_bytes, SEARCH_BYTES)
            rows = np.frombuffer(chunk[: len(chunk) // RECORD_BYTES * RECORD_BYTES], dtype=ROW)
            own = offset_bytes + RECORD_BYTES * np.arange(1, len(rows) + 1, dtype=np.uint64)  # where its data must be
            hits = (rows["sentinel"] == int.from_bytes(SENTINEL, "little")) & (rows["data_offset_bytes"] == own)
            for place in np.flatnonzero(hits).tolist():
                where = offset_bytes + place * ALIGNMENT_BYTES
                blob = _parse(self.window.read_at(where, TOLD_BYTES), where)
                if blob is not None:
                    return blob
            offset_bytes += SEARCH_BYTES
        return None


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    count = _count(window.read_at(0, HEADER_BYTES))
    walk = _Walk(window, count)
    if not walk.blobs or (not count and len(walk.blobs) < 2):
        return rejected("header" if not count else "first-record", at_bytes=0 if not count else HEADER_BYTES)
    if not count:
        walk.note("header", 0, "the header is broken; as many records are taken as follow each other")
    elif len(walk.blobs) < count and not walk.cut:
        walk.note("record-count", 0, f"{count} records are told, {len(walk.blobs)} were found")
    tensors = tuple(_tensor(walk, blob) for blob in walk.blobs)
    codes = {finding.code for finding in walk.findings}
    grade = Grade.DAMAGED if codes - {"unknown-dtype"} else Grade.UNDECIDED if codes else Grade.CONSISTENT
    if (walk.cut and count) or walk.end_bytes > window.size_bytes:
        grade = Grade.TRUNCATED
        walk.note("cut-short", window.size_bytes, f"the records go on to {walk.end_bytes:#x}, or further")
    return Verdict(
        grade=grade,
        size_bytes=walk.end_bytes,
        findings=tuple(walk.findings),
        tensors=tensors,
        facts={"records": count or len(walk.blobs), "name": "weight", "name_source": "format"},
    )


def _tensor(walk: _Walk, blob: Blob) -> Tensor:
    dtype, _ = DTYPES.get(blob.dtype, ("uint8", 8))
    elements, grade = blob.elements, Grade.CONSISTENT
    if blob.dtype not in DTYPES:
        walk.note("unknown-dtype", blob.offset_bytes, f"type {blob.dtype} is not known; its bytes are listed")
    if elements is None:
        grade = Grade.DAMAGED
        walk.note("blob-size", blob.offset_bytes, f"{blob.size_bytes} bytes are no whole number of {dtype}")
    if blob.data.end_bytes > walk.window.size_bytes:
        grade = Grade.TRUNCATED
    return Tensor(
        name=f"blob_{blob.offset_bytes}",  # as the model beside it names it: by the record's offset
        dtype=dtype,
        shape=(elements or 0,),
        layout=(blob.data,) if blob.size_bytes else (),
        grade=grade.value,
    )


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield where the record at the hit says that the file begins, if a header, or a first record, is there."""
    blob = _parse(source.read_at(hit_offset_bytes, TOLD_BYTES))
    if blob is None or blob.offset_bytes > hit_offset_bytes:
        return
    start = hit_offset_bytes - blob.offset_bytes
    head = source.read_at(start, HEADER_BYTES + TOLD_BYTES)
    first = _parse(head[HEADER_BYTES:], HEADER_BYTES)
    if _count(head) or (first is not None and blob.offset_bytes > HEADER_BYTES):
        yield start


FORMAT = Format(
    name="coreml_weights",
    suffix=".bin",
    title="Core ML weights (weight.bin of an ML program)",
    patterns=tuple(
        Pattern(bytes=SENTINEL + Int32ul.build(dtype), offset_bytes=HEADER_BYTES, name=f"record {dtype}")
        for dtype in range(1, MAX_DTYPE + 1)
    ),
    validate=validate,
    starts=starts,
    proves="nothing: there are no checksums; every record must lie where it says",
)
