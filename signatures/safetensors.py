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
from signatures._safetensors_header import (
    BLANKS,
    DTYPES,
    ENTRY_WORD,
    Entry,
    Header,
    find_control,
    parse_header,
    salvage_entries,
)
from signatures._safetensors_zeros import find_zero_tail
from signatures.format import ANY, Format, Pattern, SectorProbe
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # tensor.rs, MAX_HEADER_SIZE
MIN_HEADER_BYTES = 2
LOOK_BYTES = 4096
WALK_BACK_BYTES = 1024
LOW_LENGTH = (ANY, ANY, ANY, bytes(range(6)))  # of a header; MAX_HEADER_BYTES is 0x5F5E100
MAX_METADATA_KEYS = 64
MAX_METADATA_CHARACTERS = 512
NAME_KEYS = ("ss_output_name", "modelspec.title")
MIN_SALVAGED = 3  # entries that prove themselves, of a header that is broken
MAX_UNKNOWN_DTYPES = 8
CAPS = {"duplicate-key": Grade.CONSISTENT, "unknown-dtype": Grade.UNDECIDED}  # other findings: DAMAGED
ORDER = (Grade.CONSISTENT, Grade.UNDECIDED, Grade.DAMAGED)
BLANK_FIRST = SectorProbe(  # readers let blanks stand before the brace
    allowed=(*LOW_LENGTH, b"\0", b"\0", b"\0", b"\0", BLANKS, BLANKS + b"{", BLANKS + b'{"'),
    name="blank-first",
)


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start."""
    header_bytes = int.from_bytes(window.read_at(0, LENGTH_BYTES), "little")
    if not MIN_HEADER_BYTES <= header_bytes <= MAX_HEADER_BYTES:
        return rejected("header-length", at_bytes=0)
    look = window.read_at(LENGTH_BYTES, min(LOOK_BYTES, header_bytes))
    if look.lstrip(BLANKS)[:1] != b"{":
        return rejected("header-start", at_bytes=LENGTH_BYTES)
    control = find_control(look)
    if control is not None and ENTRY_WORD not in look[:control]:
        return rejected("header-bytes", at_bytes=LENGTH_BYTES + control)
    text = window.read_at(LENGTH_BYTES, header_bytes)
    if len(text) < header_bytes:
        return _from_broken_header(window, text, header_bytes, "header-past-end")
    if text.rstrip(BLANKS)[-1:] != b"}":
        return _from_broken_header(window, text, header_bytes, "header-end")
    header = parse_header(text)
    if isinstance(header, str):
        return _from_broken_header(window, text, header_bytes, header)
    if not header.entries:
        return rejected("empty", at_bytes=LENGTH_BYTES)
    header.entries.sort(key=lambda entry: (entry.begin, entry.end))
    fault = _tiling_fault(header.entries)
    if fault:
        return _from_broken_header(window, text, header_bytes, fault)
    return _verdict(window, LENGTH_BYTES + header_bytes, header, _header_findings(header))


def _tiling_fault(entries: list[Entry]) -> str:
    """Return the code of why entries, sorted by offset, do not tile the data, or ""."""
    position = 0
    for entry in entries:
        if entry.end < entry.begin or not entry.size_fits:
            return "tensor-size"
        if entry.begin != position:
            return "hole" if entry.begin > position else "overlap"
        position = entry.end
    return ""


def _from_broken_header(window: Window, text: bytes, header_bytes: int, code: str) -> Verdict:
    """Judge by the entries that are still whole: one flipped bit in a long header must not lose the file."""
    entries = salvage_entries(text) if ENTRY_WORD in text else []
    if len(entries) < MIN_SALVAGED or 2 * len(entries) < text.count(ENTRY_WORD):
        return rejected(code, at_bytes=LENGTH_BYTES)
    lost_bytes = entries[-1].end - sum(entry.end - entry.begin for entry in entries)
    detail = f"{len(entries)} entries are whole; {lost_bytes} bytes before the last belong to none of them"
    findings = [Finding(code=code, offset_bytes=LENGTH_BYTES, detail=detail)]
    return _verdict(window, LENGTH_BYTES + header_bytes, Header(entries=entries), findings)


def _header_findings(header: Header) -> list[Finding]:
    findings: list[Finding] = []
    if header.duplicate_keys:
        detail = "the last of equal keys counts, as in the reference reader"
        findings.append(Finding(code="duplicate-key", offset_bytes=LENGTH_BYTES, detail=detail))
    unknown = {entry.dtype: entry for entry in header.entries if entry.dtype not in DTYPES}
    for dtype, entry in sorted(unknown.items())[:MAX_UNKNOWN_DTYPES]:
        bits = 8 * (entry.end - entry.begin) // max(1, entry.elements)
        detail = f"dtype {dtype!r} is not known; {bits} bits an element by its size"
        findings.append(Finding(code="unknown-dtype", offset_bytes=LENGTH_BYTES, detail=detail))
    return findings


def _verdict(window: Window, data_start: int, header: Header, findings: list[Finding]) -> Verdict:
    """Grade a file whose tensors are known: is all of it there, and does it end in zeros?"""
    size_bytes = data_start + header.entries[-1].end
    grade = max((CAPS.get(finding.code, Grade.DAMAGED) for finding in findings), key=ORDER.index, default=ORDER[0])
    distrusted: frozenset[str] = frozenset()
    if any(
        finding.code == "header-end" for finding in findings
    ):  # or the length before it: the data may start elsewhere
        distrusted = frozenset(entry.name for entry in header.entries)
    if window.size_bytes < size_bytes:
        grade = Grade.TRUNCATED
        detail = f"{size_bytes - window.size_bytes} bytes are missing at the end"
        findings.append(Finding(code="cut-short", offset_bytes=window.size_bytes, detail=detail))
    elif tail := find_zero_tail(window, data_start, header.entries):
        detail = f"{size_bytes - tail.start_bytes} bytes of zeros at the end, in {len(tail.names)} tensors"
        findings.append(Finding(code="zero-tail", offset_bytes=tail.start_bytes, detail=detail))
        if tail.interrupted:
            grade, distrusted = Grade.DAMAGED, distrusted | tail.names
    tensors = tuple(_tensor(entry, data_start, window.size_bytes, distrusted) for entry in header.entries)
    return Verdict(
        grade=grade, size_bytes=size_bytes, findings=tuple(findings), tensors=tensors, facts=_facts(header, data_start)
    )


def _tensor(entry: Entry, data_start: int, window_bytes: int, distrusted: frozenset[str]) -> Tensor:
    extent = span(data_start + entry.begin, data_start + entry.end)
    grade = Grade.CONSISTENT if entry.dtype in DTYPES else Grade.UNDECIDED
    if entry.name in distrusted:
        grade = Grade.DAMAGED
    return Tensor(
        name=entry.name,
        dtype=DTYPES[entry.dtype][0] if entry.dtype in DTYPES else entry.dtype,
        shape=entry.shape,
        layout=(extent,) if extent.size_bytes else (),
        grade=grade if extent.end_bytes <= window_bytes else Grade.TRUNCATED,
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
        if MIN_HEADER_BYTES <= header_bytes <= MAX_HEADER_BYTES:
            yield start


def _walk_back(source: Source, hit_offset_bytes: int) -> int:
    """Return the start for a hit inside a header, or -1: only for its first tensor, and only a little way back.

    A header has thousands of these hits, so each costs one read of `WALK_BACK_BYTES`. The length's upper half is four
    zero bytes, which JSON text never has.
    """
    low = max(0, hit_offset_bytes - WALK_BACK_BYTES)
    before = source.read_at(low, hit_offset_bytes - low)
    zeros = before.rfind(b"\0\0\0\0")
    if zeros < 4 or before.find(ENTRY_WORD, zeros) >= 0:
        return -1
    return low + zeros - 4


FORMAT = Format(
    name="safetensors",
    suffix=".safetensors",
    title="safetensors",
    patterns=(
        Pattern(bytes=b'\0\0\0\0{"', offset_bytes=4, name="head", before=LOW_LENGTH),
        Pattern(bytes=b"\0\0\0\0{ ", offset_bytes=4, name="head-space", before=LOW_LENGTH),
        Pattern(bytes=b"\0\0\0\0{\n", offset_bytes=4, name="head-line", before=LOW_LENGTH),
        Pattern(bytes=b'{"__metadata__":', offset_bytes=8, name="metadata", before=LOW_LENGTH + (b"\0",) * 4),
        Pattern(bytes=ENTRY_WORD, name="data-offsets", after=(BLANKS + b":",)),
    ),
    probes=(BLANK_FIRST,),
    validate=validate,
    starts=starts,
    proves="nothing: safetensors has no checksums; the header must account for every byte",
)
