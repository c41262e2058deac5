"""PyTorch zip: what torch.save, torch.jit.save and torch.export write since torch 1.4 (.pt .pth .ckpt .ptl .pt2).

Every record has a CRC-32, told twice; torch itself never checks it, we check each. The pickle inside is read as
opcodes and never loaded. Byte facts: torch's PyTorchStreamWriter (caffe2/serialize/inline_container) and files of
torch 1.4 to 2.13.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from imaging.extent import Extent
from imaging.window import Window
from signatures._pickle import Pickle, read_pickle
from signatures._pickle_opcodes import MAX_PICKLE_BYTES
from signatures._torch_layout import TAIL_BYTES, predicted_size
from signatures._torch_pickle import StoredTensor, TensorsOf, storage_sizes
from signatures._torch_pt2 import MAX_TABLE_BYTES, pickled_of_table, tensors_of_table
from signatures._torch_starts import PATTERNS, torch_starts
from signatures._training_steps import in_order, pickled_counters, tensor_counters
from signatures._zip import STORED, read_local_header
from signatures._zip_grade import explained, grade_of, judge_records, record_grade, size_of
from signatures._zip_records import Record, record_contents
from signatures._zip_survey import Survey, root_of, survey_zip
from signatures.format import Format
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Grade, Verdict, rejected

SERIALIZATION_ID_DIGITS = 40
MAX_SMALL_BYTES = 1 << 16
SECTOR_BYTES = 512

TORCH_FOLDERS = ("data/", "constants/", "archive_format", ".data/")
PT2_FOLDERS = ("data/weights", "data/constants")  # each with a table that names its records
PACKAGE_FOLDER = ".data"  # of torch.package: 0.storage, 1.storage, …
TORCH_DAMAGE_CODES = frozenset(("record-missing", "storage-size-mismatch", "serialization-id-mismatch"))
TORCH_CAPPING_CODES = frozenset(("pickle-cut", "pickle-length", "pickle-unread", "tensors-unlisted"))


@dataclass(slots=True)
class _Reading:
    """What has been learnt of one candidate so far."""

    window: Window
    survey: Survey
    by_name: dict[str, Record]
    read: dict[int, Pickle]
    pickles: dict[str, Pickle] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    unsafe: set[str] = field(default_factory=set)
    inner: bool = False

    def note(self, code: str, offset_bytes: int | None, detail: str) -> None:
        self.survey.note(code, offset_bytes, detail)

    def small(self, name: str) -> str | None:
        """Return a small text record, stripped."""
        record = self.by_name.get(f"{self.survey.root}/{name}")
        raw = record_contents(self.window, record, limit_bytes=MAX_SMALL_BYTES) if record and record.whole else None
        return raw.decode("utf-8", "replace").strip() if raw is not None else None

    def has(self, prefix: str) -> bool:
        """Whether any record's name below the root begins so."""
        return any(name.startswith(f"{self.survey.root}/{prefix}") for name in self.by_name)


def validate(window: Window) -> Verdict:
    """Judge a window that starts where a PyTorch zip is supposed to start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    return _validate(window)


def _validate(window: Window, *, inner: bool = False) -> Verdict:
    read: dict[int, Pickle] = {}
    survey = survey_zip(window, sizes_told=partial(_storage_sizes, read))
    if not survey.records:
        return rejected("no-records", at_bytes=0)
    if not _is_torch(survey):
        return rejected("not-pytorch", at_bytes=0, detail="no data.pkl and no storages")
    by_name = {record.name: record for record in reversed(survey.records)}
    reading = _Reading(window=window, survey=survey, by_name=by_name, read=read, inner=inner)
    judge_records(window, survey)
    tensors = _tensors(reading)
    _note_missing(reading)
    _note_lost_names(reading, tensors)
    _judge_serialization_id(reading)
    _note_followers(reading)
    grade = _grade(reading)
    return Verdict(
        grade=grade,
        size_bytes=_size_bytes(reading),
        findings=tuple(survey.findings),
        tensors=tuple(tensors),
        facts=_facts(reading, tensors),
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
        explained=explained(window, survey),
    )


def _is_torch(survey: Survey) -> bool:
    inner = {record.name.partition("/")[2] for record in survey.records}
    return "data.pkl" in inner or any(name.startswith(TORCH_FOLDERS) for name in inner)


def _storage_sizes(read: dict[int, Pickle], window: Window, record: Record) -> Mapping[str, int]:
    """Return how long each storage's record must be, as data.pkl tells."""
    if not record.name.endswith("/data.pkl"):
        return {}
    pickle = _read_record(read, window, record)
    if pickle is None or pickle.overlong:
        return {}
    return storage_sizes(pickle.value, f"{root_of(record.name)}/data")


def _read_record(read: dict[int, Pickle], window: Window, record: Record) -> Pickle | None:
    """Return a record's pickle, read once; None when its contents cannot be had."""
    if record.data_offset_bytes not in read:
        raw = record_contents(window, record, limit_bytes=MAX_PICKLE_BYTES)
        if raw is None:
            return None
        read[record.data_offset_bytes] = read_pickle(raw)
    return read[record.data_offset_bytes]


def _tensors(reading: _Reading) -> list[Tensor]:
    tensors: list[Tensor] = []
    for pickle_name, folder, prefix in _pickles(reading):
        record = reading.by_name.get(f"{reading.survey.root}/{pickle_name}")
        if record is None or record.lost:
            continue
        pickle = _read_record(reading.read, reading.window, record) if record.packed_bytes else None
        if pickle is None:
            reading.note("pickle-unread", record.offset_bytes, f"{pickle_name} could not be read")
            continue
        reading.pickles[pickle_name] = pickle
        if pickle.overlong:
            reading.note("pickle-length", record.data_offset_bytes, f"{pickle_name} is longer than is read")
        elif not pickle.complete:
            reading.note("pickle-cut", record.data_offset_bytes, f"{pickle_name} breaks off; its names may be partial")
        named = TensorsOf(pickle.value)
        tensors.extend(_placed(reading, record, stored, folder, prefix) for stored in named)
        if named.cut:
            detail = f"{pickle_name} holds more objects than are looked at: there may be other tensors in it"
            reading.note("tensors-unlisted", record.data_offset_bytes, detail)
    tensors.extend(_exported(reading))
    _read_other_pickles(reading)
    for pickle_name, pickle in reading.pickles.items():
        reading.unsafe.update(pickle.unsafe)
        for name in pickle.unsafe:
            reading.note("unsafe-global", None, f"loading {pickle_name} would import {name}")
    return tensors


def _pickles(reading: _Reading) -> Iterator[tuple[str, str, str]]:
    """Yield each pickle of tensors, the folder of its storages, and what stands before its tensors' names."""
    yield "data.pkl", "data", ""
    yield "constants.pkl", "constants", "CONSTANTS."
    if reading.has(".data/extern_modules"):
        inner = [name.partition("/")[2] for name in reading.by_name]
        packed = [name for name in inner if name.endswith(".pkl") and not name.startswith(".data/")]
        for name in packed:
            yield name, PACKAGE_FOLDER, f"{name.removesuffix('.pkl')}." if len(packed) > 1 else ""


def _read_other_pickles(reading: _Reading) -> None:
    """Read what else a loader may take for a pickle: torch finds names in any case, and the last of equal ones."""
    told = {id(pickle) for pickle in reading.pickles.values()}
    for record in reading.survey.records:
        if record.name.lower().endswith(".pkl") and record.packed_bytes and not record.lost:
            pickle = _read_record(reading.read, reading.window, record)
            if pickle is not None and id(pickle) not in told:
                reading.pickles[f"{record.name} at {record.offset_bytes:#x}"] = pickle


def _exported(reading: _Reading) -> Iterator[Tensor]:
    """Yield the tensors of a torch.export file: named by its tables, or (2.7, and subclasses) in torch zips inside."""
    for name, record in reading.by_name.items():
        for folder in PT2_FOLDERS:
            if not name.startswith(f"{reading.survey.root}/{folder}/"):
                continue
            if name.endswith("_config.json"):
                raw = record_contents(reading.window, record, limit_bytes=MAX_TABLE_BYTES) or b""
                yield from (_placed(reading, record, stored, folder, "") for stored in tensors_of_table(raw))
                for tensor_name, inner in pickled_of_table(raw):
                    yield from _inside(reading, f"{reading.survey.root}/{folder}/{inner}", tensor_name)
            elif name.endswith(".pt"):
                yield from _inside(reading, name, "")


def _inside(reading: _Reading, record_name: str, prefix: str) -> Iterator[Tensor]:
    """Yield the tensors of a torch zip that a record is; of such zips inside that one, none."""
    record = reading.by_name.get(record_name)
    if record is None or record.method != STORED or not record.whole or reading.inner:
        return
    inner = _validate(reading.window.part(record.data_offset_bytes, record.packed_bytes), inner=True)
    if inner.grade is Grade.REJECTED:
        return
    reading.used.add(record_name)
    ceiling = record_grade(reading.window, record)
    unsafe = inner.facts.get("unsafe_globals", ())
    for name in unsafe if isinstance(unsafe, list) else ():
        reading.note("unsafe-global", None, f"loading {record_name} would import {name}")
        reading.unsafe.add(name)
    for finding in inner.findings:
        if finding.code in TORCH_CAPPING_CODES:
            reading.note(finding.code, record.data_offset_bytes, f"{record_name}: {finding.detail}"[:400])
    for tensor in inner.tensors:
        layout = tuple(
            Extent(offset_bytes=extent.offset_bytes + record.data_offset_bytes, size_bytes=extent.size_bytes)
            for extent in tensor.layout
        )
        name = tensor.name if not prefix else prefix if tensor.name == "tensor" else f"{prefix}.{tensor.name}"
        grade = tensor.grade if ceiling is Grade.INTACT else ceiling.value
        yield Tensor(name=name, dtype=tensor.dtype, shape=tensor.shape, layout=layout, grade=grade)


def _note_lost_names(reading: _Reading, tensors: list[Tensor]) -> None:
    """Tell what can be had of a file without the pickle that names its tensors."""
    if tensors or reading.pickles or any(record.opaque for record in reading.survey.records):
        return
    root = reading.survey.root or ""
    whole = [
        record.size_bytes
        for record in reading.survey.records
        if _is_storage_name(root, record.name) and record_grade(reading.window, record).good
    ]
    if whole:
        what = f"the pickle that names its tensors is lost; {len(whole)} storages, {sum(whole)} bytes, are whole"
        reading.note("names-lost", None, what)


def _placed(reading: _Reading, told_by: Record, stored: StoredTensor, folder: str, prefix: str) -> Tensor:
    """Give a tensor its place in the file and its storage's grade; it is proven no further than what tells of it."""
    if stored.storage_key is None:  # its shape is all there is, and the pickle tells that
        return Tensor(name=prefix + stored.name, dtype=stored.dtype, shape=stored.shape, layout=())
    record_name = f"{reading.survey.root}/{folder}/{stored.storage_key}"
    record_name += ".storage" if folder == PACKAGE_FOLDER else ""
    record = reading.by_name.get(record_name)
    first_use = record_name not in reading.used
    reading.used.add(record_name)
    layout: tuple[Extent, ...] = ()
    grade = Grade.DAMAGED
    if record is None:
        if first_use:
            reading.missing.append(record_name)
    else:
        is_foreign = record.whole and stored.storage_bytes not in (None, record.size_bytes)  # whole, and another's
        if first_use and is_foreign:
            what = f"{record_name} has {record.size_bytes} bytes, data.pkl wants {stored.storage_bytes}"
            reading.note("storage-size-mismatch", record.offset_bytes, what)
        if stored.offset_bytes + stored.size_bytes <= record.size_bytes:
            layout = _range_of(record, stored)
            grade = Grade.DAMAGED if is_foreign else record_grade(reading.window, record)
            if grade is Grade.INTACT and record_grade(reading.window, told_by) is not Grade.INTACT:
                grade = Grade.CONSISTENT
    return Tensor(name=prefix + stored.name, dtype=stored.dtype, shape=stored.shape, layout=layout, grade=grade.value)


def _note_missing(reading: _Reading) -> None:
    """Note the storages that are not there, together: of a file that is cut they are many."""
    names = reading.missing
    if names:
        what = f"the storage {names[0]} is not in the file"
        if len(names) > 1:
            what = f"{len(names)} storages are not in the file, {names[0]} to {names[-1]}"
        reading.note("record-missing", None, what)


def _range_of(record: Record, stored: StoredTensor) -> tuple[Extent, ...]:
    if stored.size_bytes == 0:
        return ()
    if record.method != STORED:
        return (Extent(offset_bytes=record.data_offset_bytes, size_bytes=record.packed_bytes),)
    return (Extent(offset_bytes=record.data_offset_bytes + stored.offset_bytes, size_bytes=stored.size_bytes),)


def combined_crc(crcs: Iterable[int]) -> int:
    """Return torch's combination of record CRC-32s in write order (c10::hash_combine, 64 bit)."""
    combined = 0
    for crc in crcs:
        combined ^= (crc + 0x9E3779B9 + (combined << 6) + (combined >> 2)) & 0xFFFFFFFFFFFFFFFF
    return combined


def _judge_serialization_id(reading: _Reading) -> None:
    text = reading.small(".data/serialization_id")
    if text is None or len(text) != SERIALIZATION_ID_DIGITS or not (text.isascii() and text.isdigit()):
        return
    own = f"{reading.survey.root}/.data/serialization_id"
    if any(record.flags not in (0x0808, 0x0800) for record in reading.survey.records):
        return  # packed again by another writer: the order is no longer torch's
    counted = [record for record in reading.survey.records if record.size_bytes and record.name != own]
    if reading.survey.directory is None or any(record.unproven or not record.whole for record in counted):
        return
    if combined_crc(record.declared_crc for record in counted) != int(text[20:]):
        reading.note("serialization-id-mismatch", None, "the records together are not those that were written")


def _note_followers(reading: _Reading) -> None:
    """Tell of a zip that follows without a gap: torch.save's stream has several only in a distributed checkpoint."""
    end_bytes = _size_bytes(reading)
    follower = read_local_header(reading.window, end_bytes) if end_bytes % SECTOR_BYTES else None
    if reading.survey.root == "archive" and follower is not None and follower.name == "archive/data.pkl":
        what = "it is one object of a distributed checkpoint (.distcp): the next follows at once"
        reading.note("one-of-several", end_bytes, what)


def _grade(reading: _Reading) -> Grade:
    grade = grade_of(reading.window, reading.survey)
    codes = reading.survey.codes
    if grade.good and codes & TORCH_DAMAGE_CODES:
        return Grade.DAMAGED
    return Grade.CONSISTENT if grade is Grade.INTACT and codes & TORCH_CAPPING_CODES else grade


def _size_bytes(reading: _Reading) -> int:
    """Return the file's length; of a cut torch.save file the length that it had."""
    survey = reading.survey
    known_bytes = size_of(reading.window, survey, tail_bytes=TAIL_BYTES)
    if survey.missing_head_bytes or (survey.directory is not None and survey.directory.tail is not None):
        return known_bytes
    return max(known_bytes, predicted_size(survey.root or "", survey.records, survey.sizes) or 0)


def _facts(reading: _Reading, tensors: Sequence[Tensor]) -> dict[str, object]:
    root = reading.survey.root or ""
    kind, suffix = _kind(reading)
    facts: dict[str, object] = {"root": root, "kind": kind, "suffix": suffix, "records": len(reading.survey.records)}
    if root and root != "archive":
        facts |= {"name": root, "name_source": "zip root"}
    for fact, name in (
        ("archive_version", "version"),
        ("byteorder", "byteorder"),
        ("format_version", ".format_version"),
    ):
        text = reading.small(name)
        if text:
            facts[fact] = text[:40]
    facts["torch_version"] = _torch_version(reading)
    pickle = reading.pickles.get("data.pkl")
    told = tensor_counters(reading.window, tensors, big_endian=facts.get("byteorder") == "big")
    if counted := in_order(told | pickled_counters(pickle.value if pickle else None)):
        facts["counters"] = counted
    if reading.unsafe:
        facts["unsafe_globals"] = sorted(reading.unsafe)
    loose = [name for name in reading.by_name if _is_storage_name(root, name) and name not in reading.used]
    if loose:
        facts["unreferenced_records"] = loose
    if reading.survey.missing_head_bytes:
        facts["missing_head_bytes"] = reading.survey.missing_head_bytes
    return facts


def _is_storage_name(root: str, name: str) -> bool:
    storages = (f"{root}/data/", f"{root}/constants/", f"{root}/tensors/")
    if name.startswith(f"{root}/{PACKAGE_FOLDER}/"):
        return name.endswith(".storage")
    return name.startswith(storages) and not name.endswith((".json", "/sample_inputs/model.pt", "/"))


def _kind(reading: _Reading) -> tuple[str, str]:
    """Return (kind, suffix) by the records' names and the top keys of data.pkl."""
    if reading.has(".data/extern_modules"):
        return "torch.package", ".pt"
    if reading.small("archive_format") == "pt2" or reading.has("models/"):
        return "pt2", ".pt2"
    if reading.has("bytecode.pkl"):
        return "mobile", ".ptl"
    if reading.has("constants.pkl") or reading.has("code/"):
        return "torchscript", ".pt"
    pickle = reading.pickles.get("data.pkl")
    value = pickle.value if pickle else None
    keys = {key for key, _ in getattr(value, "pairs", ())[:1000] if isinstance(key, str)}
    if keys & {"state_dict", "optimizer_states", "pytorch-lightning_version", "epoch", "optimizer_state_dict"}:
        return "checkpoint", ".ckpt"
    return "torch.save", ".pth"


def _torch_version(reading: _Reading) -> str:
    if reading.has(".format_version"):
        return ">=2.7"
    if reading.has("byteorder"):
        return ">=2.1"
    first = min(reading.survey.records, key=lambda r: r.offset_bytes)
    return "<=1.5" if first.name.endswith("/version") else ">=1.4"


FORMAT = Format(
    name="pytorch_zip",
    suffix=".pth",
    title="PyTorch zip (torch.save, TorchScript, mobile, .pt2)",
    patterns=PATTERNS,
    validate=validate,
    proves="every record, tensors and pickles included, is under a CRC-32 that was computed",
    starts=torch_starts,
    container=True,
)
