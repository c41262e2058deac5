"""HDF5: Keras weights, netCDF-4, MATLAB 7.3, PyTables, AnnData (HDF5 file format specification, version 3.0).

Our own bounded parser reads the whole object graph; libhdf5 crashes on damaged files and is never asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from imaging.source import Source
from imaging.window import Window
from signatures._hdf5.anchors import ANCHORS
from signatures._hdf5.attributes import Attribute, read_attributes
from signatures._hdf5.dataset import is_dataset, make_tensor, read_dataset, tensor_of
from signatures._hdf5.extension import Driver, read_extension
from signatures._hdf5.labels import is_wanted, label
from signatures._hdf5.references import check_references
from signatures._hdf5.space import Damage, Space, lookup3
from signatures._hdf5.superblock import (
    FIRST_USER_BLOCK_BYTES,
    MAX_SUPERBLOCK_BYTES,
    SIGNATURE,
    Superblock,
    parse_superblock,
    user_block_sizes,
)
from signatures._hdf5.walk import FoundObject, walk
from signatures._onnx_end import MAX_IR_VERSION
from signatures._onnx_starts import AFTER_IR_VERSION
from signatures._training_steps import tensor_counters
from signatures._zip import CENTRAL, DESCRIPTOR, END, LOCAL, ZIP64_END
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict, rejected

# the superblock's version, then that of free space (0) or the size of addresses
AFTER_SIGNATURE = (bytes(range(4)), b"\0\2\4\x08\x10\x20")
MAX_USER_BLOCK_BYTES = 1 << 26
EDGE_BYTES = 512  # a file's end is followed by zeros up to a sector's edge
OTHER_HEADS = (
    SIGNATURE, LOCAL, DESCRIPTOR, CENTRAL, ZIP64_END, END, b"GGUF", b"\x93NUMPY", b"\x80\x02\x8a\x0a\x6c\xfc\x9c",
)  # fmt: skip


def starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterator[int]:
    """Yield where the file of a superblock at `hit_bytes` starts: before it, if it has a user block."""
    superblock = parse_superblock(source.read_at(hit_bytes, MAX_SUPERBLOCK_BYTES), lookup3)
    if isinstance(superblock, str):
        return
    base = superblock.base
    yield hit_bytes - base if base <= hit_bytes and _is_user_block(base) else hit_bytes


def _is_user_block(size_bytes: int) -> bool:
    return FIRST_USER_BLOCK_BYTES <= size_bytes <= MAX_USER_BLOCK_BYTES and size_bytes & (size_bytes - 1) == 0


def validate(window: Window) -> Verdict:
    """Judge a window that starts at the supposed start of an HDF5 file."""
    found = _find_superblock(window)
    if isinstance(found, str):
        return rejected(found, at_bytes=0)
    place_bytes, superblock = found
    space = Space(
        window=window,
        base_bytes=place_bytes,
        end_bytes=superblock.end - superblock.base + place_bytes,
        address_bytes=superblock.address_bytes,
        length_bytes=superblock.length_bytes,
        maybe_open=superblock.maybe_open,
        group_leaf_k=superblock.group_leaf_k,
        group_internal_k=superblock.group_internal_k,
        chunk_k=superblock.chunk_k,
    )
    space.reached(0, superblock.size_bytes)
    if superblock.sealed is False:
        space.damage(Damage("superblock-checksum", place_bytes, "the superblock's checksum does not agree"))
    if superblock.odd:
        space.damage(Damage("superblock-field", place_bytes, f"the superblock has {superblock.odd}"))
    driver = read_extension(space, superblock)
    space.spread = driver is not None
    content = _read_content(space, superblock)
    if superblock.sealed is not True and not content.root_is_group:
        return rejected("root-group", at_bytes=space.at(superblock.root))
    return _conclude(space, superblock, driver, content)


def _find_superblock(window: Window) -> tuple[int, Superblock] | str:
    """Return where the superblock is and what it says, or the code of the reason why there is none."""
    for place_bytes in user_block_sizes(min(window.size_bytes, MAX_USER_BLOCK_BYTES + 1)):
        superblock = parse_superblock(window.read_at(place_bytes, MAX_SUPERBLOCK_BYTES), lookup3)
        if superblock == "signature":
            continue
        if isinstance(superblock, str):
            return superblock
        if place_bytes in (0, superblock.base):
            return place_bytes, superblock
        return "superblock-base"
    return "signature"


@dataclass(slots=True, kw_only=True)
class _Content:
    """What the walk gathers: random bytes never get as far as `root_is_group`."""

    root_is_group: bool = False
    root_links: tuple[str, ...] = ()
    tensors: list[Tensor] = field(default_factory=list)
    labels: dict[tuple[str, str], Attribute] = field(default_factory=dict)


def _read_content(space: Space, superblock: Superblock) -> _Content:
    content = _Content()
    for found in walk(space, superblock.root, superblock.root_table):
        if found.path == "" and found.header.address == superblock.root:
            content.root_is_group, content.root_links = found.is_group, found.links
        for attribute in read_attributes(space, found.header):
            if is_wanted(found.path, attribute.name):
                content.labels[found.path, attribute.name] = attribute
        if is_dataset(found.header):
            tensor = _judge_dataset(space, found)
            if tensor:
                content.tensors.append(tensor)
    _check_overlaps(space, content.tensors)
    return content


def _check_overlaps(space: Space, tensors: Sequence[Tensor]) -> None:
    """No two datasets share stored bytes; where two claim the same, at least one of them is wrong."""
    end_bytes, owner = 0, ""
    places = ((e.offset_bytes, e.end_bytes, tensor.name) for tensor in tensors for e in tensor.layout)
    for start_bytes, stop_bytes, name in sorted(places):
        if start_bytes < end_bytes:
            space.damage(Damage("data-overlap", start_bytes, f"{owner} and {name} claim the same bytes"))
            return  # where chunks are misread, all of them may overlap
        if stop_bytes > end_bytes:
            end_bytes, owner = stop_bytes, name


def _judge_dataset(space: Space, found: FoundObject) -> Tensor | None:
    """Return a dataset as a tensor; None where not even its shape is known."""
    try:
        dataset = read_dataset(space, found.path, found.header)
    except Damage as damage:
        space.damage(damage)
        space.lost_objects += 1
        return None
    try:
        return check_references(space, dataset, tensor_of(space, dataset))
    except Damage as damage:
        space.damage(damage)
        return make_tensor(dataset, (), Grade.DAMAGED)


def _conclude(space: Space, superblock: Superblock, driver: Driver | None, content: _Content) -> Verdict:
    facts: dict[str, object] = {"superblock_version": superblock.version, "user_block_bytes": space.base_bytes}
    facts |= label(space, content.labels, content.root_links, content.tensors)
    if counted := tensor_counters(space.window, content.tensors):
        facts["counters"] = counted
    size_bytes = _size_bytes(space, superblock)
    lost = {"lost_objects": space.lost_objects, "groups_with_lost_names": space.groups_with_lost_names}
    facts |= {key: count for key, count in lost.items() if count}
    if driver:
        size_bytes = _name_driver(space, driver, size_bytes)
        facts["driver"] = driver.name
    _look_behind(space, size_bytes)
    grade = _grade(space, size_bytes, content.tensors)
    return Verdict(
        grade=grade,
        size_bytes=size_bytes,
        findings=tuple(space.findings),
        tensors=tuple(content.tensors),
        facts=facts,
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
    )


def _name_driver(space: Space, driver: Driver, size_bytes: int) -> int:
    """Say that the rest lies in other files; return how long this one is."""
    if driver.name == "family":
        space.remark("family-file", space.base_bytes, f"the first of several files of {driver.member_bytes} bytes each")
        return min(size_bytes, driver.member_bytes or size_bytes)
    space.remark("split-file", space.base_bytes, "only the metadata is here; the data lies in a second file")
    return min(size_bytes, space.window.size_bytes)


def _size_bytes(space: Space, superblock: Superblock) -> int:
    """Return the file's length; that of an unclosed file reaches as far as what can be reached in it."""
    if not superblock.surely_open and space.reach_bytes <= space.end_bytes:
        return space.end_bytes
    detail = f"its end-of-file address says {space.end_bytes}, its objects reach to {space.reach_bytes}"
    space.add(Finding(code="unclosed", offset_bytes=space.base_bytes, detail=f"the writer never closed it; {detail}"))
    if space.reach_bytes > space.end_bytes:
        space.damaged = True
    return max(space.end_bytes, space.reach_bytes)


def _look_behind(space: Space, size_bytes: int) -> None:
    """Report bytes between the file's end and the next sector's edge, unless they are evidently another file's."""
    slack = space.window.read_at(size_bytes, -size_bytes % EDGE_BYTES)
    if slack.strip(b"\0") and not _begins_another(slack):
        detail = (
            "non-zero bytes follow the end-of-file address up to the next sector edge: "
            "a tail some writers add, slack, or another file"
        )
        space.remark("bytes-after-end", size_bytes, detail)


def _begins_another(slack: bytes) -> bool:
    """Tell whether what follows directly is another file's head, or the records of a zip that this file lies in."""
    if slack.startswith(OTHER_HEADS) or slack[8:10] == b'{"':  # safetensors: its length comes first
        return True
    return len(slack) > 2 and slack[0] == 0x08 and 0 < slack[1] <= MAX_IR_VERSION and slack[2] in AFTER_IR_VERSION


def _grade(space: Space, size_bytes: int, tensors: list[Tensor]) -> Grade:
    if space.spread:
        return Grade.DAMAGED if space.damaged else Grade.TRUNCATED
    if size_bytes > space.window.size_bytes:
        space.remark("end-missing", space.window.size_bytes, f"the file should have {size_bytes} bytes")
        return Grade.TRUNCATED
    if space.damaged or space.cut or any(tensor.grade in (Grade.DAMAGED, Grade.TRUNCATED) for tensor in tensors):
        return Grade.DAMAGED
    stored = [tensor for tensor in tensors if tensor.layout]
    if stored and not space.unproven and all(tensor.grade == Grade.INTACT for tensor in stored):
        return Grade.INTACT
    return Grade.CONSISTENT


FORMAT = Format(
    name="hdf5",
    suffix=".h5",
    title="HDF5 (Keras, netCDF-4, MATLAB 7.3, PyTables, AnnData)",
    patterns=(Pattern(bytes=SIGNATURE, name="signature", after=AFTER_SIGNATURE), *ANCHORS),
    validate=validate,
    starts=starts,
    proves="chunks under deflate or Fletcher-32; contiguous data, as Keras writes it, is under no checksum",
)
