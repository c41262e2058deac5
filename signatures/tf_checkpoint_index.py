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
    find_footer,
    read_footer,
)
from signatures._tf_index import HEAD_LOOK_BYTES, SALVAGE_BYTES, Index, is_head, name_facts
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Grade, Verdict, rejected

MAX_LISTED = 20_000
MAX_HEAD_SHARDS = 8  # with more data files, or a later producer, the footer alone finds the file
FOOTER_NAME = "footer"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def validate(window: Window) -> Verdict:
    """Judge an index that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    if not is_head(window.read_at(0, HEAD_LOOK_BYTES)):
        return rejected("head", at_bytes=0)
    index = Index(window)
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


def _verdict(index: Index, grade: Grade, size_bytes: int) -> Verdict:
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
    } | name_facts(index)
    tensors = tuple(Tensor(name=entry.name, dtype=entry.dtype, shape=entry.shape, layout=()) for entry in index.entries)
    return Verdict(grade=grade, size_bytes=size_bytes, findings=tuple(index.findings), tensors=tensors, facts=facts)


def starts(source: Source, hit_offset_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the start that a footer tells, or the hit on a head, when a bundle header is there."""
    start = hit_offset_bytes - pattern.offset_bytes
    if pattern.name == FOOTER_NAME:
        end_bytes = hit_offset_bytes + len(FOOTER_MAGIC)
        footer = read_footer(source.read_at(end_bytes - FOOTER_BYTES, FOOTER_BYTES)) if end_bytes >= 48 else None
        start = end_bytes - footer.end_bytes if footer is not None else -1
    if start >= 0 and is_head(source.read_at(start, HEAD_LOOK_BYTES)):
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
