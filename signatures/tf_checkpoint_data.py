"""TensorFlow checkpoint data: tensors back to back, without a magic; the index beside it has the CRC-32C of each.

So it is found by way of its index, and judged together with it: the window goes on with the index where the data ends.
On a drive the data is usually written just before the index, which is where it is looked for first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from weakref import WeakKeyDictionary

from imaging.errors import BudgetExceeded
from imaging.extent import Extent, Layout, span
from imaging.source import Source
from imaging.window import Window
from signatures._table import FOOTER_BYTES, FOOTER_MAGIC, Footer, find_footers, read_footer
from signatures._tf_bundle import BundleEntry
from signatures._tf_data import find_data, is_proven, probes_of, shard_bytes
from signatures._tf_index import Index, is_head, name_facts
from signatures._training_steps import tensor_counters
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict, rejected

SLAB_BYTES = 64 << 20
SEARCH_BYTES = 4 << 30  # on either side of the index, beyond the data's own length
NEAR_BYTES = 64 << 20  # the same, once so much of an image was searched in vain:
MAX_VAIN_BYTES = 256 << 30
_searched_in_vain: WeakKeyDictionary[Source, int] = WeakKeyDictionary()
MAX_SHARDS = 64
MAX_FINDINGS = 100
SLACK_BYTES = 4096  # between a data file and an index that lies right behind it
HEAD_LOOK_BYTES = 64


def validate(window: Window) -> Verdict:
    """Judge a data file that would begin at the window's start; its index ends the window or follows it at once.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    found = _index_behind(window)
    if found is None:
        return rejected("no-index")
    index, at_bytes = found
    shard = _shard_of(window, index, at_bytes)
    if shard is None:
        return rejected("no-tensor-fits")
    size_bytes = shard_bytes(index.entries)[shard]
    data = window.part(0, min(size_bytes, at_bytes))
    findings = list[Finding]()
    tensors = [_tensor(data, entry, findings) for entry in index.entries if entry.shard == shard and entry.size_bytes]
    if index.findings:
        detail = "the index is damaged: it does not tell all tensors of this file"
        findings.append(Finding(code="index-damaged", detail=detail))
    if size_bytes > data.size_bytes:
        detail = f"{size_bytes - data.size_bytes} bytes are missing at the end"
        findings.append(Finding(code="cut-short", offset_bytes=data.size_bytes, detail=detail))
    grade = _grade(findings, tensors)
    counted = tensor_counters(data, tensors, big_endian=index.big_endian)
    return Verdict(
        grade=grade,
        size_bytes=size_bytes,
        findings=tuple(findings[:MAX_FINDINGS]),
        tensors=tuple(tensors),
        facts={"shard": shard, "shards": index.shards, "big_endian": index.big_endian}
        | {"suffix": f".data-{shard:05d}-of-{index.shards:05d}"}
        | name_facts(index)
        | ({"counters": counted} if counted else {}),
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
    )


def _grade(findings: list[Finding], tensors: list[Tensor]) -> Grade:
    codes = {finding.code for finding in findings}
    if "cut-short" in codes:
        return Grade.TRUNCATED
    if codes:
        return Grade.DAMAGED
    return Grade.INTACT if all(tensor.grade == Grade.INTACT for tensor in tensors) else Grade.CONSISTENT


def _tensor(data: Window, entry: BundleEntry, findings: list[Finding]) -> Tensor:
    end_bytes = entry.offset_bytes + entry.size_bytes
    grade = Grade.TRUNCATED
    if end_bytes <= data.size_bytes:
        proven = is_proven(data, entry)
        grade = Grade.CONSISTENT if proven is None else Grade.INTACT if proven else Grade.DAMAGED
    if grade is Grade.DAMAGED:
        detail = f"{entry.name[:200]} does not have the CRC-32C that the index tells"
        findings.append(Finding(code="crc-mismatch", offset_bytes=entry.offset_bytes, detail=detail))
    return Tensor(
        name=entry.name,
        dtype=entry.dtype,
        shape=entry.shape,
        layout=(span(entry.offset_bytes, end_bytes),),
        grade=grade.value,
    )


def _index_behind(window: Window) -> tuple[Index, int] | None:
    """Return the index that ends the window, or the first one that follows some data, and where it begins."""
    last = read_footer(window.read_at(window.size_bytes - FOOTER_BYTES, FOOTER_BYTES))
    ends = [(window.size_bytes, last)] if last is not None else find_footers(window)
    for end_bytes, footer in ends:
        start_bytes = end_bytes - footer.end_bytes
        if start_bytes > 0 and is_head(window.read_at(start_bytes, HEAD_LOOK_BYTES)):
            return _read(window, start_bytes, footer), start_bytes
    return None


def _read(window: Window, start_bytes: int, footer: Footer) -> Index:
    index = Index(window.part(start_bytes, footer.end_bytes))
    index.read(footer)
    return index


def _shard_of(window: Window, index: Index, data_bytes: int) -> int | None:
    """Return the number of the data file that begins here: by its length, then by its tensors' checksums."""
    sizes = shard_bytes(index.entries)
    near = sorted(sizes, key=lambda shard: (not 0 <= data_bytes - sizes[shard] < SLACK_BYTES, shard))
    for shard in near[:MAX_SHARDS]:
        probes = probes_of(index.entries, shard)
        inside = [probe for probe in probes if probe.offset_bytes + probe.size_bytes <= data_bytes]
        fitting = sum(is_proven(window, probe) is True for probe in inside)
        if fitting >= min(2, len(probes)) > 0:
            return shard
    return None


def layouts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterator[Layout]:
    """Yield each data file of the index whose footer was hit, if it is found, with that index behind it.

    Raises:
        ReadFault: from the source.
    """
    end_bytes = hit_offset_bytes + len(FOOTER_MAGIC)
    footer = read_footer(source.read_at(end_bytes - FOOTER_BYTES, FOOTER_BYTES)) if end_bytes >= FOOTER_BYTES else None
    start_bytes = end_bytes - footer.end_bytes if footer is not None else -1
    if footer is None or start_bytes < 0 or not is_head(source.read_at(start_bytes, HEAD_LOOK_BYTES)):
        return
    try:
        index = _read(Window(source, (span(start_bytes, source.size_bytes),)), 0, footer)
    except BudgetExceeded:
        return
    for shard, size_bytes in islice(shard_bytes(index.entries).items(), MAX_SHARDS):
        found = _find(source, probes_of(index.entries, shard), start_bytes, end_bytes, size_bytes)
        if found is not None:
            data = span(found, min(found + size_bytes, source.size_bytes))
            yield (data, Extent(offset_bytes=start_bytes, size_bytes=footer.end_bytes))


def _find(source: Source, probes: list[BundleEntry], before: int, behind: int, size_bytes: int) -> int | None:
    """Return where the data lies: before the index, nearest first, then behind it.

    That is the first place where all probes fit; without one, the place where most do: it may be damaged, while other
    versions of the model share some tensors.
    """
    if not probes:
        return None
    vain = _searched_in_vain.get(source, 0)
    reach = size_bytes + (SEARCH_BYTES if vain < MAX_VAIN_BYTES else NEAR_BYTES)
    first = max(0, before - reach)
    slabs = [(max(first, high - SLAB_BYTES), high) for high in range(before, first, -SLAB_BYTES)]
    end = min(source.size_bytes, behind + reach)
    slabs += [(low, min(end, low + SLAB_BYTES)) for low in range(behind, end, SLAB_BYTES)]
    best, most = None, 0
    for low, high in slabs:
        for start, fitting in sorted(find_data(source, probes, low, high), key=lambda found: abs(found[0] - before)):
            if fitting == len(probes):
                return start
            if fitting > most:
                best, most = start, fitting
    _searched_in_vain[source] = vain + sum(high - low for low, high in slabs)
    return best


FORMAT = Format(
    name="tf_checkpoint_data",
    suffix=".data-00000-of-00001",
    title="TensorFlow checkpoint data, by its index",
    patterns=(Pattern(bytes=FOOTER_MAGIC, name="footer of its index"),),
    validate=validate,
    layouts=layouts,
    proves="every tensor is under the CRC-32C that the checkpoint's index keeps of it",
)
