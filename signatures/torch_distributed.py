"""PyTorch distributed checkpoint (.distcp): torch zips one behind the other, one for each object of a rank.

Each is written by torch.save to a stream, so its root is `archive` and its offsets count from its own start; it holds
one tensor or one small object. Which is which, only the `.metadata` beside them tells. Found from the first zip: how
long that is, its own pickle tells, and another must follow. One that is damaged ends nothing while the file is seen to
go on behind it (`_torch_chain`). Facts: torch.distributed.checkpoint.filesystem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from imaging.extent import Extent
from imaging.source import Source
from imaging.window import Window
from signatures import pytorch_zip
from signatures._torch_chain import (
    SECTOR_BYTES,
    Place,
    begins_object,
    behind_cut,
    behind_whole,
    object_at,
    object_before,
    only_zeros_follow,
    size_of_object,
)
from signatures._torch_starts import STORED_PREFIX
from signatures._zip import END, END_BYTES
from signatures._zip_starts import whole_source
from signatures.format import Format, Pattern
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict, rejected

MAX_FINDINGS = 100
MAX_HEADLESS = 100  # at the file's start
MAX_HEADER_REST_BYTES = 128  # the lengths, the first record's name and its padding
JUDGED = (Grade.INTACT, Grade.CONSISTENT, Grade.DAMAGED, Grade.TRUNCATED)


@dataclass(slots=True)
class _Chain:
    """The zips that were followed so far.

    Attributes:
        whole_bytes: how long each is but for one that is cut.
        damaged: the numbers of those that are not whole.
        lost: those of stretches that may have been several.
        cut_bytes: how long the last one was, if it has no end: once another follows, it is only damaged.
    """

    size_bytes: int = 0
    items: int = 0
    whole_bytes: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    cut_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    explained: list[int] = field(default_factory=list)
    unsafe: set[str] = field(default_factory=set)
    capped: bool = False

    @property
    def grade(self) -> Grade:
        """That of the worst."""
        if self.cut_bytes:
            return Grade.TRUNCATED
        if self.damaged:
            return Grade.DAMAGED
        return Grade.CONSISTENT if self.capped else Grade.INTACT

    def add(self, verdict: Verdict, size_bytes: int) -> None:
        """Take the zip that begins where the chain ends."""
        at_bytes = self.size_bytes
        self.explained += [at_bytes, *(at_bytes + offset for offset in verdict.explained)]
        for finding in verdict.findings:
            if finding.code != "one-of-several":
                self._note(finding.code, at_bytes + (finding.offset_bytes or 0), finding.detail)
        for tensor in verdict.tensors:
            name = f"{self.items}" if tensor.name == "tensor" else f"{self.items}.{tensor.name}"
            layout = tuple(
                Extent(offset_bytes=e.offset_bytes + at_bytes, size_bytes=e.size_bytes) for e in tensor.layout
            )
            self.tensors.append(replace(tensor, name=name, layout=layout))
        if not verdict.tensors and verdict.facts.get("unreferenced_records"):
            self._keep_as_bytes(size_bytes)
        unsafe = verdict.facts.get("unsafe_globals")
        self.unsafe.update(unsafe if isinstance(unsafe, list) else ())
        self.capped |= verdict.grade is Grade.CONSISTENT
        self._go_on(size_bytes, whole=verdict.grade.good, cut=verdict.grade is Grade.TRUNCATED)

    def lose(self, place: Place) -> None:
        """Take what lies between the chain's end and the next object as one that is lost."""
        size_bytes = place.start_bytes - self.size_bytes
        what = f"neither its head nor its end is there; {size_bytes} bytes are lost, maybe of several objects"
        self._note("object-lost", self.size_bytes, what)
        self._keep_as_bytes(size_bytes)
        self.explained += place.passed
        self.lost.append(self.items)
        self._go_on(size_bytes, whole=False, cut=False)

    def _keep_as_bytes(self, size_bytes: int) -> None:
        """List an object whose tensor has lost its type and its shape."""
        layout = (Extent(offset_bytes=self.size_bytes, size_bytes=size_bytes),)
        lost = Tensor(
            name=f"{self.items}", dtype="uint8", shape=(size_bytes,), layout=layout, grade=Grade.DAMAGED.value
        )
        self.tensors.append(lost)

    def _note(self, code: str, offset_bytes: int, detail: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            detail = f"object {self.items}: {detail}"
            self.findings.append(Finding(code=code, offset_bytes=offset_bytes, detail=detail))

    def _go_on(self, size_bytes: int, *, whole: bool, cut: bool) -> None:
        if self.cut_bytes:
            self.whole_bytes.append(self.cut_bytes)
        self.cut_bytes = size_bytes if cut else 0
        if not cut:
            self.whole_bytes.append(size_bytes)
        if not whole:
            self.damaged.append(self.items)
        self.size_bytes += size_bytes
        self.items += 1


def validate(window: Window) -> Verdict:
    """Judge a window that starts where the first of several torch zips is supposed to start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    chain = _Chain()
    place = object_at(window, 0)
    while place is not None:
        end_bytes = place.end_bytes or window.size_bytes
        verdict = pytorch_zip.validate(window.part(place.start_bytes, end_bytes - place.start_bytes))
        if verdict.grade not in JUDGED or not verdict.size_bytes or _is_next_file(place, verdict):
            break
        if place.start_bytes > chain.size_bytes:
            chain.lose(place)
        size_bytes, following = _size_and_next(window, place, verdict)
        if following is not None and verdict.grade is Grade.TRUNCATED:  # nothing of the next is its own
            verdict = pytorch_zip.validate(window.part(place.start_bytes, size_bytes))
        chain.add(verdict, size_bytes)
        place = following
    if chain.items < 2:
        return rejected("single-zip", at_bytes=0)
    grade = chain.grade
    if grade is not Grade.TRUNCATED and _is_cut_header(window, chain.size_bytes):
        grade = Grade.TRUNCATED
        chain.findings.append(Finding(code="cut-short", offset_bytes=chain.size_bytes, detail="an object begins there"))
    facts: dict[str, object] = {"kind": "distributed checkpoint", "objects": chain.items}
    facts["object_bytes"] = chain.whole_bytes  # by these its metadata knows it
    if chain.damaged:
        facts["damaged_objects"] = chain.damaged[:MAX_FINDINGS]
    if chain.lost:
        facts["lost_objects"] = chain.lost
    if chain.unsafe:
        facts["unsafe_globals"] = sorted(chain.unsafe)
    return Verdict(
        grade=grade,
        size_bytes=chain.size_bytes,
        findings=tuple(chain.findings),
        tensors=tuple(chain.tensors),
        facts=facts,
        data_evidence=DataEvidence.CHECKSUM if grade is Grade.INTACT else DataEvidence.NONE,
        explained=tuple(chain.explained),
    )


def _is_cut_header(window: Window, at_bytes: int) -> bool:
    """Tell whether the window ends inside the header of one more zip."""
    left = window.read_at(at_bytes, len(STORED_PREFIX) + MAX_HEADER_REST_BYTES)
    if len(left) > len(STORED_PREFIX) + MAX_HEADER_REST_BYTES - 1:
        return False
    return bool(left) and STORED_PREFIX.startswith(left[: len(STORED_PREFIX)])


def _size_and_next(window: Window, place: Place, verdict: Verdict) -> tuple[int, Place | None]:
    """Return how long an object is, and where the next one is."""
    if place.end_bytes is None and verdict.grade is Grade.TRUNCATED:
        told_bytes, following = behind_cut(window, place.start_bytes)
        if following is None:
            return verdict.size_bytes, None
        return told_bytes or following.start_bytes - place.start_bytes, following
    end_bytes = place.end_bytes or place.start_bytes + verdict.size_bytes
    return end_bytes - place.start_bytes, behind_whole(window, end_bytes)


def _is_next_file(place: Place, verdict: Verdict) -> bool:
    """Tell whether a zip at a sector's edge may be a file of its own: all but a lone tensor may."""
    return place.start_bytes % SECTOR_BYTES == 0 < place.start_bytes and [t.name for t in verdict.tensors] != ["tensor"]


def starts(source: Source, hit_bytes: int, pattern: Pattern) -> Iterable[int]:
    """Yield the hit where a torch zip of one object begins that is not all there is; but no inner one.

    Where those before it have lost their heads, it is where the first of them began. Reads the pickle of the hit's zip
    and a few small records; the data is gone over, not read.
    """
    window = whole_source(source)
    if not begins_object(window, hit_bytes):
        return ()
    start_bytes = hit_bytes
    for _ in range(MAX_HEADLESS):
        before = object_before(window, start_bytes)
        if before is None:
            break
        if begins_object(window, before):
            return ()
        start_bytes = before
    if start_bytes < hit_bytes:
        return (start_bytes,)
    size_bytes = size_of_object(window.part(hit_bytes, window.size_bytes - hit_bytes), max_storages=1)
    if size_bytes is None or _ends_file(window, hit_bytes + size_bytes):
        return ()
    return (hit_bytes,)


def _ends_file(window: Window, end_bytes: int) -> bool:
    """Tell whether a zip ends there that has its end record, and nothing but zeros behind it."""
    return window.read_at(end_bytes - END_BYTES, len(END)) == END and only_zeros_follow(window, end_bytes)


FORMAT = Format(
    name="torch_distributed",
    suffix=".distcp",
    title="PyTorch distributed checkpoint (.distcp)",
    patterns=(Pattern(bytes=STORED_PREFIX, name="first object"),),
    validate=validate,
    proves="every record of every object in it is under a CRC-32 that was computed",
    starts=starts,
    container=True,
    parts=pytorch_zip.FORMAT.name,
)
