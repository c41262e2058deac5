"""PyTorch distributed checkpoint (.distcp): torch zips one behind the other, one for each object of a rank.

Each is written by torch.save to a stream, so its root is `archive` and its offsets count from its own start; it holds
one tensor or one small object. Which is which, only the `.metadata` beside them tells. Found from the first zip: how
long that is, its own pickle tells, and another must begin right there. Facts: torch.distributed.checkpoint.filesystem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures import pytorch_zip
from signatures._pickle import read_pickle
from signatures._torch_layout import predicted_size
from signatures._torch_pickle import tensors_of
from signatures._torch_starts import STORED_PREFIX
from signatures._zip import END, END_BYTES, read_directory, read_local_header
from signatures._zip_records import Record, follow, record_contents
from signatures._zip_starts import tail_at_end, whole_source
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict, rejected

ROOT = "archive"
FIRST_RECORD = f"{ROOT}/data.pkl"
SECTOR_BYTES = 512
MAX_ITEMS = 100_000
MAX_FINDINGS = 100
MAX_PICKLE_BYTES = 1 << 20  # of one tensor or one small object
MAX_SMALL_RECORDS = 8  # before the storage
MAX_SMALL_BYTES = 4096
MAX_HEADER_REST_BYTES = 128  # the lengths, the first record's name and its padding
WORST_LAST = (Grade.INTACT, Grade.CONSISTENT, Grade.DAMAGED, Grade.TRUNCATED)


@dataclass(slots=True)
class _Chain:
    """The zips that were followed so far.

    Attributes:
        whole_bytes: how long each is but for one that is cut.
    """

    size_bytes: int = 0
    items: int = 0
    whole_bytes: list[int] = field(default_factory=list)
    grade: Grade = Grade.INTACT
    findings: list[Finding] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    explained: list[int] = field(default_factory=list)
    unsafe: set[str] = field(default_factory=set)

    def add(self, verdict: Verdict) -> None:
        """Take the zip that begins where the chain ends."""
        at_bytes = self.size_bytes
        self.explained += [at_bytes, *(at_bytes + offset for offset in verdict.explained)]
        told = [finding for finding in verdict.findings if finding.code != "one-of-several"]
        for finding in told[: max(0, MAX_FINDINGS - len(self.findings))]:
            place = at_bytes + (finding.offset_bytes or 0)
            detail = f"object {self.items}: {finding.detail}"
            self.findings.append(replace(finding, offset_bytes=place, detail=detail))
        for tensor in verdict.tensors:
            name = f"{self.items}" if tensor.name == "tensor" else f"{self.items}.{tensor.name}"
            layout = tuple(
                Extent(offset_bytes=e.offset_bytes + at_bytes, size_bytes=e.size_bytes) for e in tensor.layout
            )
            self.tensors.append(replace(tensor, name=name, layout=layout))
        unsafe = verdict.facts.get("unsafe_globals")
        self.unsafe.update(unsafe if isinstance(unsafe, list) else ())
        self.grade = max(self.grade, verdict.grade, key=WORST_LAST.index)
        if verdict.grade is not Grade.TRUNCATED:
            self.whole_bytes.append(verdict.size_bytes)
        self.size_bytes += verdict.size_bytes
        self.items += 1


def validate(window: Window) -> Verdict:
    """Judge a window that starts where the first of several torch zips is supposed to start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    chain = _Chain()
    while chain.items < MAX_ITEMS and chain.grade is not Grade.TRUNCATED and _begins_item(window, chain.size_bytes):
        verdict = pytorch_zip.validate(window.part(chain.size_bytes, window.size_bytes - chain.size_bytes))
        if verdict.grade not in WORST_LAST or not verdict.size_bytes or _is_next_file(chain, verdict):
            break
        chain.add(verdict)
    if chain.items < 2:
        return rejected("single-zip", at_bytes=0)
    if chain.grade is not Grade.TRUNCATED and _is_cut_header(window, chain.size_bytes):
        chain.grade = Grade.TRUNCATED
        chain.findings.append(Finding(code="cut-short", offset_bytes=chain.size_bytes, detail="an object begins there"))
    facts: dict[str, object] = {"kind": "distributed checkpoint", "objects": chain.items}
    facts["object_bytes"] = chain.whole_bytes  # by these its metadata knows it
    if chain.unsafe:
        facts["unsafe_globals"] = sorted(chain.unsafe)
    return Verdict(
        grade=chain.grade,
        size_bytes=chain.size_bytes,
        findings=tuple(chain.findings),
        tensors=tuple(chain.tensors),
        facts=facts,
        data_evidence=DataEvidence.CHECKSUM if chain.grade is Grade.INTACT else DataEvidence.NONE,
        explained=tuple(chain.explained),
    )


def _begins_item(window: Window, at_bytes: int) -> bool:
    header = read_local_header(window, at_bytes)
    return header is not None and header.name == FIRST_RECORD


def _is_cut_header(window: Window, at_bytes: int) -> bool:
    """Tell whether the window ends inside the header of one more zip."""
    left = window.read_at(at_bytes, len(STORED_PREFIX) + MAX_HEADER_REST_BYTES)
    if len(left) > len(STORED_PREFIX) + MAX_HEADER_REST_BYTES - 1:
        return False
    return bool(left) and STORED_PREFIX.startswith(left[: len(STORED_PREFIX)])


def _is_next_file(chain: _Chain, verdict: Verdict) -> bool:
    """Tell whether a zip at a sector's edge may be a file of its own: all but a lone tensor may."""
    return chain.size_bytes % SECTOR_BYTES == 0 < chain.items and [t.name for t in verdict.tensors] != ["tensor"]


def starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the hit where a torch zip of one object begins, and ends where the next begins; but no inner one.

    Reads the pickle of the hit's zip and a few small records; the data is gone over, not read.
    """
    window = whole_source(source)
    if not _begins_item(window, hit_bytes) or _follows_zip(window, hit_bytes):
        return ()
    size_bytes = _size_of_item(window.part(hit_bytes, window.size_bytes - hit_bytes))
    return (hit_bytes,) if size_bytes and _begins_item(window, hit_bytes + size_bytes) else ()


def _follows_zip(window: Window, at_bytes: int) -> bool:
    """Tell whether a zip, whose first records are still there, ends right before."""
    end_record_bytes = at_bytes - END_BYTES
    if end_record_bytes < 0 or at_bytes % SECTOR_BYTES == 0:
        return False
    return window.read_at(end_record_bytes, len(END)) == END and tail_at_end(window, end_record_bytes) is not None


def _size_of_item(window: Window) -> int | None:
    """Return how long a zip of one object is, as its pickle and torch's layout tell."""
    records: list[Record] = []
    sizes: dict[str, int] = {}
    at_bytes = 0
    header = read_local_header(window, 0)
    while header is not None and header.name not in sizes and len(records) < MAX_SMALL_RECORDS:
        end_bytes = header.data_offset_bytes + (MAX_SMALL_BYTES if records else MAX_PICKLE_BYTES)
        record = follow(window, header, end_bytes=end_bytes, is_ours=lambda *_: False)
        if not record.whole:
            return None
        if not records:
            sizes = _storages(record_contents(window, record, limit_bytes=MAX_PICKLE_BYTES) or b"")
        records.append(record)
        at_bytes = record.end_bytes
        header = read_local_header(window, at_bytes)
    if sizes:
        return predicted_size(ROOT, records, sizes) if len(sizes) == 1 else None
    tail = read_directory(window, at_bytes).tail
    return tail.end_bytes if tail is not None else None


def _storages(raw: bytes) -> dict[str, int]:
    stored = tensors_of(read_pickle(raw).value)
    return {f"{ROOT}/data/{one.storage_key}": one.storage_bytes for one in stored if one.storage_bytes is not None}


FORMAT = Format(
    name="torch_distributed",
    suffix=".distcp",
    title="PyTorch distributed checkpoint (.distcp)",
    patterns=(Pattern(bytes=STORED_PREFIX, name="first object"),),
    validate=validate,
    proves="every record of every object in it is under a CRC-32 that was computed",
    starts=starts,
)
