"""safetensors: 8 bytes of header length, a JSON header, then the tensors without a gap. No magic, no checksum.

The length is exact: 8, the header, and the largest offset. The tensors must tile the data: from 0, without hole or
overlap, each with exactly the bytes that its dtype and shape ask for. Random bytes cannot pass that by chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from imaging.extent import span
from imaging.source import Source
from imaging.window import Window
from signatures._safetensors_header import DTYPES, Entry, Header, find_control, parse_header
from signatures.format import Format, Pattern, SectorProbe
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # tensor.rs, MAX_HEADER_SIZE
MIN_HEADER_BYTES = 2
LOOK_BYTES = 4096
BLANKS = b" \t\r\n"
WALK_BACK_BYTES = 1024
DATA_OFFSETS = b'"data_offsets":'
MAX_METADATA_KEYS = 64
MAX_METADATA_CHARACTERS = 512
NAME_KEYS = ("ss_output_name", "modelspec.title")
ZERO_CHUNK = bytes(1 << 20)
ZERO_TAIL_BYTES = 1 << 16
SECTOR_BYTES = 512
MAX_WORD_BYTES = 16


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start."""
    header_bytes = int.from_bytes(window.read_at(0, LENGTH_BYTES), "little")
    data_start = LENGTH_BYTES + header_bytes
    if not MIN_HEADER_BYTES <= header_bytes <= MAX_HEADER_BYTES:
        return rejected("header-length", at_bytes=0)
    if data_start > window.size_bytes:
        return rejected("header-past-end", at_bytes=0)
    look = window.read_at(LENGTH_BYTES, min(LOOK_BYTES, header_bytes))
    if look.lstrip(BLANKS)[:1] != b"{":
        return rejected("header-start", at_bytes=LENGTH_BYTES)
    control = find_control(look)
    if control is not None:
        return rejected("header-bytes", at_bytes=LENGTH_BYTES + control)
    text = window.read_at(LENGTH_BYTES, header_bytes)
    if text.rstrip(BLANKS)[-1:] != b"}":
        return rejected("header-end", at_bytes=data_start)
    header = parse_header(text)
    if isinstance(header, str):
        return rejected(header, at_bytes=LENGTH_BYTES)
    if not header.entries:
        return rejected("empty", at_bytes=LENGTH_BYTES)
    return _tiling_fault(header.entries) or _verdict(window, data_start, header)


def _tiling_fault(entries: list[Entry]) -> Verdict | None:
    """Return the rejection of entries that do not tile the data, or None; sorts them by offset."""
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            code = "hole" if entry.begin > position else "overlap"
            return rejected(code, detail=f"tensor {entry.name!r}")
        if entry.end < entry.begin or not _size_fits(entry):
            return rejected("tensor-size", detail=f"tensor {entry.name!r}")
        position = entry.end
    return None


def _size_fits(entry: Entry) -> bool:
    stored_bits = 8 * (entry.end - entry.begin)
    if entry.dtype in DTYPES:
        return stored_bits == entry.elements * DTYPES[entry.dtype][1]
    if entry.elements == 0:
        return stored_bits == 0
    return stored_bits % entry.elements == 0 and stored_bits > 0


def _verdict(window: Window, data_start: int, header: Header) -> Verdict:
    size_bytes = data_start + header.entries[-1].end
    findings: list[Finding] = []
    if header.duplicate_keys:
        findings.append(
            Finding(code="duplicate-key", detail="the last of equal keys counts, as in the reference reader")
        )
    unknown = sorted({entry.dtype for entry in header.entries} - DTYPES.keys())
    if unknown:
        findings.append(Finding(code="unknown-dtype", detail=", ".join(map(repr, unknown))))
    grade = Grade.CONSISTENT
    if window.size_bytes < size_bytes:
        grade = Grade.TRUNCATED
        findings.append(Finding(code="cut-short", offset_bytes=window.size_bytes))
    tensors = tuple(_tensor(entry, data_start, window.size_bytes) for entry in header.entries)
    return Verdict(
        grade=grade, size_bytes=size_bytes, findings=tuple(findings), tensors=tensors, facts=_facts(header, data_start)
    )


def _tensor(entry: Entry, data_start: int, window_bytes: int) -> Tensor:
    extent = span(data_start + entry.begin, data_start + entry.end)
    return Tensor(
        name=entry.name,
        dtype=DTYPES[entry.dtype][0] if entry.dtype in DTYPES else entry.dtype,
        shape=entry.shape,
        layout=(extent,) if extent.size_bytes else (),
        grade=Grade.CONSISTENT if extent.end_bytes <= window_bytes else Grade.TRUNCATED,
    )


def _facts(header: Header, data_start: int) -> dict[str, object]:
    facts: dict[str, object] = {
        "header_bytes": data_start - LENGTH_BYTES,
        "dtypes": dict(sorted(Counter(entry.dtype for entry in header.entries).items())),
        "parameters": sum(entry.elements for entry in header.entries),
    }
    if header.metadata:
        kept = list(header.metadata.items())[:MAX_METADATA_KEYS]
        facts["metadata"] = {key[:MAX_METADATA_CHARACTERS]: value[:MAX_METADATA_CHARACTERS] for key, value in kept}
        facts["metadata_keys"] = len(header.metadata)
    for key in NAME_KEYS:
        if header.metadata.get(key, "").strip():
            return facts | {"name": header.metadata[key].strip()[:MAX_METADATA_CHARACTERS], "name_source": key}
    return facts


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield where the file of a hit begins, if the 8 bytes before the brace can be a header's length."""
    if pattern.name == "data-offsets":
        start = _walk_back(source, hit_offset_bytes)
    else:
        start = hit_offset_bytes - pattern.offset_bytes
    if start >= 0:
        header_bytes = int.from_bytes(source.read_at(start, LENGTH_BYTES), "little")
        if MIN_HEADER_BYTES <= header_bytes <= min(MAX_HEADER_BYTES, source.size_bytes - start - LENGTH_BYTES):
            yield start


def _walk_back(source: Source, hit_offset_bytes: int) -> int:
    """Return the start for a hit inside a header, or -1: only for its first tensor, and only a little way back.

    A header has thousands of these hits, so each costs one read of `WALK_BACK_BYTES`. The length's upper half is four
    zero bytes, which JSON text never has.
    """
    low = max(0, hit_offset_bytes - WALK_BACK_BYTES)
    before = source.read_at(low, hit_offset_bytes - low)
    zeros = before.rfind(b"\0\0\0\0")
    if zeros < 4 or before.find(DATA_OFFSETS, zeros) >= 0:
        return -1
    return low + zeros - 4


FORMAT = Format(
    name="safetensors",
    suffix=".safetensors",
    title="safetensors",
    patterns=(
        Pattern(bytes=b'\0\0\0\0{"', offset_bytes=4, name="head"),
        Pattern(bytes=b"\0\0\0\0{ ", offset_bytes=4, name="head-space"),
        Pattern(bytes=b"\0\0\0\0{\n", offset_bytes=4, name="head-line"),
        Pattern(bytes=b'{"__metadata__":', offset_bytes=8, name="metadata"),
        Pattern(bytes=DATA_OFFSETS, name="data-offsets"),
    ),
    probes=(),
    validate=validate,
    starts=starts,
    proves="nothing: safetensors has no checksums; the header must account for every byte",
)
