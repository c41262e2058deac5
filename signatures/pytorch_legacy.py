"""Legacy PyTorch: what torch.save wrote before 1.6, and still writes when asked to.

Five pickles one after the other (magic number, protocol version, system, object, storage keys), then for each key the
number of elements in 8 bytes and the raw values. No checksum, but every number of elements stands twice, there and in
the object's pickle, so data that is not this file's is seen. The pickles are read as opcodes and never loaded. Facts:
torch.serialization (_legacy_save, _legacy_load) and torch/csrc/serialization.cpp.
"""

from __future__ import annotations

import pickle as dumping  # to foretell how long a list of keys is; nothing is ever loaded
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imaging.extent import Layout, span
from imaging.window import Window
from signatures._pickle import Node, Pickle, read_pickle
from signatures._pickle_globals import Global
from signatures._pickle_span import pickle_at
from signatures._torch_legacy import Front, Storage, keys_of, read_front, storages_of
from signatures._torch_pickle import StoredTensor, TensorsOf
from signatures._training_steps import in_order, pickled_counters, tensor_counters
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade, Verdict, rejected

MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # LONG1 of the magic number, STOP
NUMEL_BYTES = 8
MAX_FINDINGS = 16
MAX_UNSAFE = 64
UNDECIDED_CODES = frozenset(("pickle-length", "storage-unknown"))
HARMLESS_CODES = frozenset(("unsafe-global", "tensors-unlisted"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a storage's values lie, and whether the number of elements before them agrees."""

    begin: int
    end: int
    agrees: bool


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What has been learnt of one candidate so far."""

    window: Window
    front: Front
    pickle: Pickle
    storages: Mapping[str, Storage]
    sources: list[str]
    end_bytes: int
    unsafe: list[str] = field(default_factory=list)
    places: dict[str, _Place] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)

    def note(self, code: str, offset_bytes: int | None, detail: str) -> None:
        """Add a finding; of many alike the first few are told."""
        self.codes.add(code)
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code=code, offset_bytes=offset_bytes, detail=detail))


def validate(window: Window) -> Verdict:
    """Judge a window that starts where a legacy torch file is supposed to start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    front = read_front(window)
    if isinstance(front, str):
        return rejected(front, at_bytes=0)
    raw, fault = pickle_at(window, front.end_bytes)
    pickle = read_pickle(raw)
    storages, sources = storages_of(pickle.value)
    reading = _Reading(
        window=window,
        front=front,
        pickle=pickle,
        storages=storages,
        sources=sources,
        unsafe=[*front.unsafe, *pickle.unsafe],
        end_bytes=front.end_bytes + (pickle.size_bytes if fault == "pickle-broken" else len(raw)),
    )
    if fault or not pickle.complete:
        reading.note(fault or "pickle-broken", reading.end_bytes, "the object's pickle does not reach its end")
    else:
        _place_storages(reading, _read_keys(reading))
    for name in reading.unsafe[:MAX_UNSAFE]:
        reading.note("unsafe-global", front.end_bytes, f"loading it would import {name}")
    if window.size_bytes < reading.end_bytes:
        detail = f"{reading.end_bytes - window.size_bytes} bytes are missing at the end"
        reading.note("cut-short", window.size_bytes, detail)
    tensors = tuple(_tensors(reading))
    return Verdict(
        grade=_grade(reading),
        size_bytes=reading.end_bytes,
        findings=tuple(reading.findings),
        tensors=tensors,
        facts=_facts(reading, tensors),
    )


def _read_keys(reading: _Reading) -> list[str]:
    """Return the storages' keys in their order and go past them.

    The list is the sorted keys of the object's pickle. Where it cannot be read, or names others, that is what it must
    have been, and its length is foretold.
    """
    at_bytes = reading.end_bytes
    expected = sorted(reading.storages)
    raw, fault = pickle_at(reading.window, at_bytes)
    keys = read_pickle(raw)
    reading.unsafe += keys.unsafe
    told = keys_of(keys) if not fault else None
    if told is None:
        reading.note("keys-broken", at_bytes, "the list of storage keys cannot be read; it is foretold")
        reading.end_bytes = at_bytes + len(dumping.dumps(expected, protocol=reading.front.protocol))
        return expected
    reading.end_bytes = at_bytes + len(raw)
    if set(told) != set(expected):
        reading.note("keys-mismatch", at_bytes, "the list of storage keys is not that of the object's pickle")
        return expected if len(told) == len(expected) else told
    return told


def _place_storages(reading: _Reading, keys: list[str]) -> None:
    """Go from storage to storage, each a number of elements and its values."""
    for key in keys:
        at_bytes = reading.end_bytes
        storage = reading.storages.get(key)
        if storage is None or storage.item_bytes is None:
            reading.note("storage-unknown", at_bytes, f"the type of storage {key[:40]} is not known, nor what follows")
            return
        begin = at_bytes + NUMEL_BYTES
        word = reading.window.read_at(at_bytes, NUMEL_BYTES)
        agrees = word == storage.numel.to_bytes(NUMEL_BYTES, "little")
        if not agrees and len(word) == NUMEL_BYTES:
            told = int.from_bytes(word, "little")
            reading.note("numel-mismatch", at_bytes, f"storage {key[:40]}: {told} elements instead of {storage.numel}")
        reading.end_bytes = begin + storage.numel * storage.item_bytes
        reading.places[key] = _Place(begin=begin, end=reading.end_bytes, agrees=agrees)


def _tensors(reading: _Reading) -> Iterator[Tensor]:
    named = TensorsOf(reading.pickle.value)
    for stored in named:
        if stored.storage_key is None:  # its shape is all there is
            yield Tensor(name=stored.name, dtype=stored.dtype, shape=stored.shape, layout=())
            continue
        place = reading.places.get(stored.storage_key)
        if place is not None and place.begin + stored.offset_bytes + stored.size_bytes > place.end:
            reading.note("tensor-past-storage", place.begin, f"{stored.name[:200]} is longer than its storage")
            place = None
        yield _tensor(reading, stored, place)
    if named.cut:
        detail = "the object holds more than is looked at: there may be other tensors in it"
        reading.note("tensors-unlisted", 0, detail)


def _tensor(reading: _Reading, stored: StoredTensor, place: _Place | None) -> Tensor:
    layout: Layout = ()
    grade = Grade.TRUNCATED if "pickle-cut" in reading.codes else Grade.DAMAGED
    if place is not None:
        begin = place.begin + stored.offset_bytes
        extent = span(begin, begin + stored.size_bytes)
        layout = (extent,) if extent.size_bytes else ()
        grade = Grade.CONSISTENT if place.agrees else Grade.DAMAGED
        if max(extent.end_bytes, place.begin) > reading.window.size_bytes:
            grade = Grade.TRUNCATED
    return Tensor(name=stored.name, dtype=stored.dtype, shape=stored.shape, layout=layout, grade=grade.value)


def _grade(reading: _Reading) -> Grade:
    codes = reading.codes - HARMLESS_CODES
    if codes & {"cut-short", "pickle-cut"}:
        return Grade.TRUNCATED
    if codes - UNDECIDED_CODES:
        return Grade.DAMAGED
    return Grade.UNDECIDED if codes else Grade.CONSISTENT


def _facts(reading: _Reading, tensors: tuple[Tensor, ...]) -> dict[str, object]:
    value = reading.pickle.value
    facts: dict[str, object] = {
        "pickle_protocol": reading.front.protocol,
        "byteorder": "little" if reading.front.little_endian else "big",
        "storages": len(reading.storages),
        "stored_bytes": sum(place.end - place.begin for place in reading.places.values()),
        "tensors": len(tensors),
    }
    if isinstance(value, Node):
        facts["object"] = str(value.head)[:200] if isinstance(value.head, Global) else value.kind
    told = tensor_counters(reading.window, tensors, big_endian=not reading.front.little_endian)
    if counted := in_order(told | pickled_counters(value)):
        facts["counters"] = counted
    if reading.sources:
        facts["source_files"] = reading.sources[:MAX_FINDINGS]
    if reading.unsafe:
        facts["unsafe_globals"] = reading.unsafe[:MAX_UNSAFE]
    return facts


FORMAT = Format(
    name="pytorch_legacy",
    suffix=".pth",
    title="PyTorch before 1.6 (torch.save without a zip)",
    patterns=(
        Pattern(bytes=b"\x80\x02" + MAGIC, name="protocol-2"),
        Pattern(bytes=b"\x80\x03" + MAGIC, name="protocol-3"),
        Pattern(bytes=b"\x80\x04\x95\x0d\0\0\0\0\0\0\0" + MAGIC, name="protocol-4"),
        Pattern(bytes=b"\x80\x05\x95\x0d\0\0\0\0\0\0\0" + MAGIC, name="protocol-5"),
    ),
    validate=validate,
    proves="nothing: it has no checksums; the element count before each storage must equal the pickle's",
)
