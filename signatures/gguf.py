"""GGUF: llama.cpp's model files, versions 2 and 3, of either byte order.

No checksum and no length, but the tensors must tile the data exactly, so the end is known. Shapes are given in numpy's
order (slowest first), the reverse of ggml's; those of quantised tensors count weights, not bytes. Facts: the GGUF
specification, gguf.cpp and gguf-py, which write alike.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import Any

from imaging.window import Window
from signatures._gguf_header import Header, read_header
from signatures._gguf_layout import Placed, in_order, padded, place
from signatures._gguf_salvage import read_uncounted, salvage_entries
from signatures._gguf_types import FILE_TYPES, GUESSED_FILE_TYPE
from signatures._safetensors_header import Entry as ZeroEntry
from signatures._safetensors_zeros import find_zero_tail
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

DEFAULT_ALIGNMENT_BYTES = 32  # GGUF_DEFAULT_ALIGNMENT
MAX_ALIGNMENT_BYTES = 1 << 20
UINT32 = 4
MIN_KEYS_OF_A_BROKEN_HEADER = 3
MAX_FINDINGS = 16
MAX_METADATA = 64
MAX_WORD_CHARACTERS = 200
CAPS = {"unknown-type": Grade.UNDECIDED, "unsorted-offsets": Grade.CONSISTENT}  # other findings: DAMAGED
ORDER = (Grade.CONSISTENT, Grade.UNDECIDED, Grade.DAMAGED)


def validate(window: Window) -> Verdict:
    """Judge a file that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    header = read_header(window)
    if isinstance(header, str):
        return rejected(header, at_bytes=0)
    alignment_bytes = header.values.get("general.alignment", DEFAULT_ALIGNMENT_BYTES)
    if header.types.get("general.alignment", UINT32) != UINT32 or not _is_alignment(alignment_bytes):
        return rejected("alignment", detail=f"tensors cannot be aligned to {alignment_bytes}")
    findings: list[Finding] = []
    if header.fault:
        whole = salvage_entries(window, header, alignment_bytes) if _is_credible(header) else None
        if whole is None:
            return _broken(header, *header.fault)
        detail = "the header is broken here; the tensors' records after it are whole"
        findings.append(Finding(code=header.fault[0], offset_bytes=header.fault[1], detail=detail))
        header = whole
    elif read_uncounted(window, header, alignment_bytes):
        detail = f"{len(header.entries)} tensors instead of {header.declared_tensors}"
        findings.append(Finding(code="tensor-count", offset_bytes=8, detail=detail))
    ordered = in_order(header.entries, alignment_bytes)
    placed = place(ordered, alignment_bytes)
    faulty = [one for one in placed if one.fault]
    if 2 * len(faulty) > len(placed):
        return rejected(faulty[0].fault, at_bytes=faulty[0].entry.at_bytes)
    findings += [Finding(code=code, offset_bytes=at, detail=name) for code, name, at in header.repeated[:MAX_FINDINGS]]
    if ordered != header.entries:
        detail = "the tensors are not stored in the order of their records"
        findings.append(Finding(code="unsorted-offsets", offset_bytes=header.end_bytes, detail=detail))
    findings += [_fault_finding(one) for one in faulty[:MAX_FINDINGS]]
    return _verdict(window, header, placed, findings, alignment_bytes)


def _is_alignment(value: int) -> bool:
    return 0 < value <= MAX_ALIGNMENT_BYTES and value & (value - 1) == 0


def _is_credible(header: Header) -> bool:
    """Tell whether what was read before a broken place is a GGUF header beyond doubt."""
    return "general.architecture" in header.values or len(header.types) >= MIN_KEYS_OF_A_BROKEN_HEADER


def _fault_finding(one: Placed) -> Finding:
    details = {
        "unknown-type": f"ggml type {one.entry.ggml_type} is not known",
        "block-size": f"rows of {one.entry.dims[:1]} are no whole blocks of {one.dtype}",
        "tensor-offset": "its offset and size contradict its neighbours",
    }
    return Finding(
        code=one.fault, offset_bytes=one.entry.at_bytes, detail=f"{_clipped(one.entry.name)}: {details[one.fault]}"
    )


def _broken(header: Header, code: str, at_bytes: int) -> Verdict:
    """Judge by the keys alone: a header that breaks off tells what was lost, but not where its tensors lie."""
    if not _is_credible(header):
        return rejected(code, at_bytes=at_bytes)
    grade = Grade.TRUNCATED if code == "header-past-end" else Grade.DAMAGED
    read = f"{len(header.types)} of {header.declared_keys} keys"
    detail = f"the header breaks off after {read} and {len(header.entries)} of {header.declared_tensors} tensors"
    placed = [Placed(entry=entry, begin=0, end=0) for entry in header.entries]
    return Verdict(
        grade=grade,
        size_bytes=at_bytes,
        findings=(Finding(code=code, offset_bytes=at_bytes, detail=detail),),
        tensors=tuple(
            Tensor(name=one.entry.name, dtype=one.dtype, shape=one.shape, layout=(), grade=grade.value)
            for one in placed
        ),
        facts=_facts(header, placed),
    )


def _verdict(
    window: Window, header: Header, placed: list[Placed], findings: list[Finding], alignment_bytes: int
) -> Verdict:
    """Grade a file whose tensors are known: is all of it there, is the padding zero, does it end in zeros?"""
    data_start = padded(header.end_bytes, alignment_bytes) if placed else header.end_bytes
    end_bytes = data_start + max((one.end for one in placed), default=0)
    # a vocabulary ends with its last key; the first part that llama.cpp splits off may hold no tensors, but is padded
    is_padded = bool(placed) or "split.count" in header.values
    size_bytes = end_bytes + _last_padding(window, end_bytes, padded(end_bytes, alignment_bytes) if is_padded else 0)
    findings += _padding_findings(window, header.end_bytes, data_start, placed)
    distrusted = {one.entry.name for one in placed if one.fault}
    distrusted |= {header.lost} - {""}
    if window.size_bytes < size_bytes:
        detail = f"{size_bytes - window.size_bytes} bytes are missing at the end"
        findings.append(Finding(code="cut-short", offset_bytes=window.size_bytes, detail=detail))
    elif placed and (tail := find_zero_tail(window, data_start, _zero_entries(placed))):
        detail = f"{end_bytes - tail.start_bytes} bytes of zeros at the end, in {len(tail.names)} tensors"
        findings.append(Finding(code="zero-tail", offset_bytes=tail.start_bytes, detail=detail))
        distrusted |= tail.names if tail.interrupted else set()
    grade = _grade(findings, distrusted)
    tensors = [_tensor(one, data_start, window.size_bytes, one.entry.name in distrusted) for one in placed]
    return Verdict(
        grade=grade,
        size_bytes=size_bytes,
        findings=tuple(findings),
        tensors=tuple(tensors),
        facts=_facts(header, placed) | {"alignment_bytes": alignment_bytes, "data_offset_bytes": data_start},
    )


def _grade(findings: list[Finding], distrusted: set[str]) -> Grade:
    codes = {finding.code for finding in findings}
    if "cut-short" in codes:
        return Grade.TRUNCATED
    if not distrusted:
        codes -= {"zero-tail"}  # by design, as far as can be told
    return max((CAPS.get(code, Grade.DAMAGED) for code in codes), key=ORDER.index, default=Grade.CONSISTENT)


def _last_padding(window: Window, end_bytes: int, padded_end_bytes: int) -> int:
    """Return how many bytes of padding follow the last tensor; a writer may leave them out."""
    padding = window.read_at(end_bytes, padded_end_bytes - end_bytes)
    return len(padding) if not any(padding) else 0


def _padding_findings(window: Window, header_end: int, data_start: int, placed: list[Placed]) -> list[Finding]:
    """Tell of bytes between the tensors that are not zero, as every known writer leaves them."""
    gaps = [(header_end, data_start)]
    for one, following in pairwise(placed):
        if not one.fault:
            gaps.append((data_start + one.end, data_start + following.begin))
    return [
        Finding(code="padding", offset_bytes=begin, detail="the padding before a tensor is not zero")
        for begin, end in gaps
        if end > begin and any(window.read_at(begin, min(end - begin, MAX_ALIGNMENT_BYTES)))
    ][:MAX_FINDINGS]


def _zero_entries(placed: list[Placed]) -> list[ZeroEntry]:
    return [
        ZeroEntry(name=one.entry.name, dtype=one.dtype, shape=one.shape, begin=one.begin, end=one.end)
        for one in sorted(placed, key=lambda one: one.end)
    ]


def _tensor(one: Placed, data_start: int, window_bytes: int, distrusted: bool) -> Tensor:
    layout = one.layout(data_start)
    grade = Grade.CONSISTENT
    if one.fault == "unknown-type":
        grade = Grade.UNDECIDED
    elif distrusted:
        grade = Grade.DAMAGED
    if layout and layout[0].end_bytes > window_bytes:
        grade = Grade.TRUNCATED
    return Tensor(name=one.entry.name, dtype=one.dtype, shape=one.shape, layout=layout, grade=grade.value)


def _facts(header: Header, placed: list[Placed]) -> dict[str, object]:
    values = header.values
    facts: dict[str, object] = {
        "version": header.version,
        "byte_order": "little" if header.order == "<" else "big",
        "dtypes": dict(sorted(Counter(one.dtype for one in placed).items())),
        "parameters": sum(math.prod(one.shape) for one in placed),
        "metadata": _metadata(values),
        "metadata_keys": len(header.types),
    }
    for fact, key in (("architecture", "general.architecture"), ("tokenizer", "tokenizer.ggml.model")):
        if isinstance(values.get(key), str):
            facts[fact] = _clipped(values[key])
    if "tokenizer.ggml.tokens" in header.lengths:
        facts["vocabulary"] = header.lengths["tokenizer.ggml.tokens"]
    if quantisation := _quantisation(values, placed):
        facts["quantisation"] = quantisation
    facts |= _split(values)
    if name := _name(values, str(facts.get("quantisation", "")), facts):
        facts |= {"name": name, "name_source": "general.name"}
    return facts


def _metadata(values: dict[str, Any]) -> dict[str, object]:
    """Return the first scalars and short strings; of floats only what JSON can hold."""
    kept = {
        key[:MAX_WORD_CHARACTERS]: _clipped(value) if isinstance(value, str) else value
        for key, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
    return dict(list(kept.items())[:MAX_METADATA])


def _quantisation(values: dict[str, Any], placed: list[Placed]) -> str:
    """Return the file type's word; without one, the type that most bytes have."""
    told = values.get("general.file_type")
    if isinstance(told, int) and told & ~GUESSED_FILE_TYPE in FILE_TYPES:
        return FILE_TYPES[told & ~GUESSED_FILE_TYPE]
    sizes: Counter[str] = Counter()
    for one in placed:
        sizes[one.dtype] += math.prod(one.shape)
    words = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64"}
    most = max(sizes, key=lambda dtype: (sizes[dtype], dtype), default="")
    return words.get(most, most.upper())


def _split(values: dict[str, Any]) -> dict[str, object]:
    """Return which part of how many this is, counted from 1 as in file names."""
    number, count = values.get("split.no"), values.get("split.count")
    if not isinstance(number, int) or not isinstance(count, int) or not 0 <= number < count or count < 2:
        return {}
    found: dict[str, object] = {"split_number": number + 1, "split_count": count}
    if isinstance(values.get("split.tensors.count"), int):
        found["split_tensors"] = values["split.tensors.count"]
    return found


def _name(values: dict[str, Any], quantisation: str, facts: dict[str, object]) -> str:
    """Return the file stem after gguf-py's naming convention: Name-7B-Q4_K_M-00001-of-00003."""
    name = values.get("general.name")
    if not isinstance(name, str) or not name.strip():
        return ""
    words = [re.sub(r"\s+", "-", _clipped(name.strip()))]
    for word in (values.get("general.size_label"), quantisation):
        if isinstance(word, str) and word.strip() and word.strip().lower() not in words[0].lower():
            words.append(_clipped(word.strip()))
    if "split_count" in facts:
        words.append(f"{facts['split_number']:05d}-of-{facts['split_count']:05d}")
    return "-".join(words)


def _clipped(text: str) -> str:
    return text[:MAX_WORD_CHARACTERS]


FORMAT = Format(
    name="gguf",
    suffix=".gguf",
    title="GGUF (llama.cpp)",
    patterns=(
        Pattern(bytes=b"GGUF\x03\0\0\0", name="version-3"),
        Pattern(bytes=b"GGUF\x02\0\0\0", name="version-2"),
        Pattern(bytes=b"GGUF\0\0\0\x03", name="version-3-big-endian"),
        Pattern(bytes=b"GGUF\0\0\0\x02", name="version-2-big-endian"),
    ),
    validate=validate,
    proves="nothing: GGUF has no checksums; the tensors must account for every byte of the data",
)
