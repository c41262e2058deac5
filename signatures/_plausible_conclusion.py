"""Conclusion: what the blocks, runs and heads that were seen in a file's tensors tell of it, and what is lost."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from imaging.extent import Extent, ExtentSet, span
from signatures._plausible_places import Place
from signatures._plausible_stretches import BESIDE_BYTES, BLOCK_BYTES, Span, Stretch, beside, stretches
from signatures.verdict import Finding

SECTOR_BYTES = 512
RUN_BYTES = 4096  # shorter runs of one byte are nobody's business
TAIL_BYTES = 1 << 16
BAND_ROWS = 4
WHOLE_BYTES = 1 << 16  # uniform tensors smaller than this are not told
MAX_ITEM_BYTES = 16
MAX_FINDINGS = 16
PLAUSIBLE_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the bytes of a file's tensors say.

    Attributes:
        findings: what is odd, with the tensor and the range; the first of each kind.
        lost: ranges of the file that are near certainly not what was written there.
        plausible: whether most bytes are floats, and these look like weights throughout.
        facts: JSON-ready counts.
    """

    findings: tuple[Finding, ...] = ()
    lost: ExtentSet = field(default_factory=ExtentSet)
    plausible: bool = False
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Conclusion:
    """What counts as lost, and what is only told.

    Lost are: uniform or text blocks, and those of floats of twice the width (another file's), that begin or end inside
    a tensor whose neighbouring blocks look like weights; all uniform blocks, where there are so many that they are
    random beyond doubt; zeros (or another byte) of 4 KiB and more whose both ends lie inside tensors, on sector edges,
    off the rows; and such zeros of 64 KiB and more from a 4 KiB edge to the end of the file. In vectors only 64 KiB and
    more between pages count. A tensor with other runs off the sectors, or with runs one below the other in four rows,
    is sparse by design and is left alone. Lost is, too, what is behind another file's head on a sector's edge inside
    floats: its four bytes are no weight (by chance once in terabytes), so the file lies in pieces or was overwritten.
    So are stretches of quantised weights where all bytes are equally frequent, beside others where they are not, if
    there are so many that they are random beyond doubt.
    Only told are floats of half the width or of the other 16 bits, and numbers of all sizes, amid a tensor's weights.
    """

    places: list[Place]
    begins: list[int]
    shift: int
    spans: list[Span]
    runs: list[Span]
    certain: bool
    packed_certain: bool
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    lost: list[Extent] = field(default_factory=list)
    off_sectors: Counter[int] = field(default_factory=Counter)
    banded: set[int] = field(default_factory=set)

    def evidence(self, nans: dict[int, int], signatures: Iterable[tuple[int, str]]) -> Evidence:
        from signatures.kernels.surveys import (
            CLEAR,
            CLEAR_SWAPPED,
            OTHER_FLOATS,
            PACKED,
            PACKED_UNCLEAR,
            PACKED_UNIFORM,
            TEXT,
            UNIFORM,
            WIDER,
            WILD,
            WILD_UNCLEAR,
        )

        sizes: dict[int, int] = {}
        for number, one in enumerate(self.spans):
            sizes[one.kind] = sizes.get(one.kind, 0) + one.end - one.start
            if one.kind == TEXT:
                self._tell(one, "tensor-text", "reads as text", lost=self._torn_blocks(number))
            elif one.kind == UNIFORM:
                self._tell_uniform(number, one)
            elif one.kind == WIDER and self._torn_blocks(number):
                self._tell(one, "tensor-other-type", "holds floats of another width than its own", lost=True)
        self._tell_stretches((OTHER_FLOATS,), "tensor-other-type", "holds floats of another type than its own")
        self._tell_stretches(
            (WILD, WILD_UNCLEAR), "tensor-other-contents", "holds numbers of all sizes, as no weights are"
        )
        random = "is as random as encrypted or compressed bytes, next to quantised weights that are not"
        self._tell_stretches((PACKED_UNIFORM,), "tensor-uniform-block", random, lost=self.packed_certain)
        self.banded = self._bands()
        self.off_sectors.update(home for run in self.runs if (home := self._home_off_sectors(run)) is not None)
        for run in self.runs:
            self._judge_run(run)
        for at, name in signatures:
            detail = f"{self._name(at)}: {name} begins at a sector's edge inside it"
            self._note("tensor-foreign-signature", at, detail)
            self._lose_behind_head(at, nans)
        for index, count in nans.items():
            place = self.places[index]
            self._note("tensor-nan", place.begin, f"{place.name}: {count} values are not a number")
        packed = sum(sizes.get(kind, 0) for kind in (PACKED, PACKED_UNIFORM, PACKED_UNCLEAR))
        surveyed = sum(sizes.values()) - packed
        clear = sizes.get(CLEAR, 0) + sizes.get(CLEAR_SWAPPED, 0)
        self._tell_share(sizes.get(UNIFORM, 0) + sizes.get(PACKED_UNIFORM, 0), surveyed + packed)
        told = [finding for several in self.findings.values() for finding in several]
        return Evidence(
            findings=tuple(told),
            lost=ExtentSet(self.lost),
            plausible=not told and surveyed > 0 and clear >= PLAUSIBLE_SHARE * surveyed,
            facts={"surveyed_bytes": surveyed, "weight_like_bytes": clear, "uniform_bytes": sizes.get(UNIFORM, 0)},
        )

    def _note(self, code: str, at: int, detail: str) -> None:
        several = self.findings.setdefault(code, [])
        if len(several) < MAX_FINDINGS:
            several.append(Finding(code=code, offset_bytes=at, detail=detail))

    def _name(self, at: int) -> str:
        return self.places[max(0, self._index(at))].name

    def _names(self, one: Span) -> str:
        first, last = self._name(one.start), self._name(one.end - 1)
        return first if first == last else f"{first} to {last}"

    def _tell(self, one: Span, code: str, what: str, *, lost: bool) -> None:
        self._note(code, one.start, f"{self._names(one)}: {one.start:#x}+{one.end - one.start:#x} {what}")
        if lost:
            self.lost.append(span(one.start, one.end))

    def _tell_uniform(self, number: int, one: Span) -> None:
        torn = self._torn_blocks(number)
        if torn or self.certain or one.end - one.start >= WHOLE_BYTES:
            what = "is as random as encrypted or compressed bytes" + (", next to weights that are not" if torn else "")
            self._tell(one, "tensor-uniform-block", what, lost=torn or self.certain)

    def _tell_stretches(self, kinds: tuple[int, ...], code: str, what: str, *, lost: bool = False) -> None:
        """Tell what begins or ends amid a tensor's weights; the statistics see it, and prove nothing."""
        for one in stretches(self.spans, kinds):
            if self._torn_stretch(one):
                whole = Span(self.spans[one.first].start, self.spans[one.last].end, kinds[0])
                self._tell(whole, code, what, lost=lost)

    def _torn_stretch(self, one: Stretch) -> bool:
        from signatures.kernels.surveys import CLEAR, CLEAR_SWAPPED, PACKED

        for number, step in ((one.first, -1), (one.last, 1)):
            near = beside(self.spans, number, step)
            place = self._inside(self.spans[number].start if step < 0 else self.spans[number].end)
            if near is None or place is None or near.kind not in (CLEAR, CLEAR_SWAPPED, PACKED):
                continue
            weights = near.end - BESIDE_BYTES if step < 0 else near.start + BESIDE_BYTES
            if place.begin <= weights <= place.end:
                return True
        return False

    def _lose_behind_head(self, at: int, nans: dict[int, int]) -> None:
        """Lose what is behind another file's head inside floats: its tensor's rest, and on to the last one with NaN.

        Tensors with NaN before it are lost, too: a zip's record is a head, and the zip may begin long before it.
        """
        home = self._index(at)
        if home >= 0 and self.places[home].lane_bytes:
            last = max((index for index in nans if index > home), default=home)
            self.lost.append(span(at, self.places[last].end))
            self.lost += [span(self.places[index].begin, self.places[index].end) for index in nans if index <= home]

    def _torn_blocks(self, number: int) -> bool:
        """Whether a stretch of blocks begins or ends inside a tensor, next to blocks that look like its weights."""
        return self._torn_block(number, -1) or self._torn_block(number, 1)

    def _torn_block(self, number: int, step: int) -> bool:
        from signatures.kernels.surveys import CLEAR, CLEAR_SWAPPED, OTHER_FLOATS, UNCLEAR, WILD, WILD_UNCLEAR

        here = self.spans[number]
        edge = here.start if step < 0 else here.end
        place = self._inside(edge)
        for _ in range(2):
            number += step
            if place is None or not 0 <= number < len(self.spans):
                return False
            next_span = self.spans[number]
            near, far = (next_span.end, next_span.start) if step < 0 else (next_span.start, next_span.end)
            if near != edge or not place.begin <= edge + step * BLOCK_BYTES <= place.end:
                return False
            if next_span.kind in (CLEAR, CLEAR_SWAPPED, WILD, OTHER_FLOATS):
                return True
            if next_span.kind not in (UNCLEAR, WILD_UNCLEAR) or abs(far - near) > BLOCK_BYTES:
                return False
            edge = far  # a block that is half the one and half the other
        return False

    def _inside(self, at: int) -> Place | None:
        """Return the place that `at` lies inside of, not at its edge."""
        index = self._index(at)
        place = self.places[index] if index >= 0 else None
        return place if place is not None and place.begin < at < place.end else None

    def _judge_run(self, run: Span) -> None:
        size_bytes = run.end - run.start
        if size_bytes < RUN_BYTES:
            return
        torn_start, torn_end = self._torn(run.start, first=True), self._torn(run.end, first=False)
        if not (torn_start or torn_end) or self._sparse(run):
            return
        to_end = run.end == self.places[-1].end and size_bytes >= TAIL_BYTES
        on_page = self._on_page(run.start)
        lost = (torn_start and torn_end) or (torn_start and to_end and on_page) or run.kind != 0
        if self._without_rows(run) and run.kind == 0:  # many parameters in one vector: a bias may lie anywhere
            lost = lost and on_page and size_bytes >= TAIL_BYTES and (to_end or self._on_page(run.end))
        what = f"is nothing but {run.kind:#04x}, from or to a sector's edge in the middle of its rows"
        self._tell(run, "tensor-zero-run" if run.kind == 0 else "tensor-byte-run", what, lost=lost)

    def _on_page(self, at: int) -> bool:
        """Whether a run may begin or end at a page: of the file, which was not written, or of the drive, which lost it.

        The number at the edge may itself begin or end in such bytes.
        """
        distances = ((at + shift) % BLOCK_BYTES for shift in (0, self.shift))
        return any(min(distance, BLOCK_BYTES - distance) < MAX_ITEM_BYTES for distance in distances)

    def _without_rows(self, run: Span) -> bool:
        ends = (self._inside(run.start), self._inside(run.end))
        return any(place is not None and not place.row_bytes for place in ends)

    def _torn(self, at: int, *, first: bool) -> bool:
        """Whether a run begins (or ends) inside a tensor at a sector's edge, and not where a row does."""
        place = self._inside(at)
        if place is None:
            return False
        item = place.item_bytes
        slack = -(at + self.shift) % SECTOR_BYTES if first else (at + self.shift) % SECTOR_BYTES
        if slack >= item:  # the number at the edge may itself begin or end in such bytes
            return False
        offset = at - place.begin
        snapped = -(-offset // item) * item if first else offset // item * item
        return not any(snapped % row == 0 for row in place.row_bytes)

    def _sparse(self, run: Span) -> bool:
        """Whether the tensor at either end of a run has others that no drive makes: off the sectors, or row by row."""
        ends = {self._index(run.start), self._index(run.end - 1)}
        own = self._home_off_sectors(run)
        return any(index in self.banded or self.off_sectors[index] > (index == own) for index in ends)

    def _home_off_sectors(self, run: Span) -> int | None:
        """Return the place that a run lies in whole, if it begins or ends off the sectors."""
        home = self._home(run)
        return home if home is not None and (self._off_sectors(run.start) or self._off_sectors(run.end)) else None

    def _off_sectors(self, at: int) -> bool:
        """Whether no sector's edge is near; the number at an edge may itself begin or end in such bytes."""
        beyond = (at + self.shift) % SECTOR_BYTES
        return MAX_ITEM_BYTES <= beyond <= SECTOR_BYTES - MAX_ITEM_BYTES

    def _home(self, run: Span) -> int | None:
        home = self._index(run.start)
        return home if home >= 0 and run.end <= self.places[home].end else None

    def _bands(self) -> set[int]:
        """Return the places with blocks of zeros: in several rows, one below the other, at the same columns."""
        found: set[int] = set()
        above: dict[tuple[int, int], int] = {}  # a run's start and length -> in how many rows up to it
        for run in self.runs:
            home = self._home(run)
            rows = self.places[home].row_bytes if home is not None else ()
            if home is None or not rows or run.end - run.start >= rows[0]:
                continue
            size_bytes = run.end - run.start
            count = above.get((run.start - rows[0], size_bytes), 0) + 1
            above[run.start, size_bytes] = count
            if count >= BAND_ROWS:
                found.add(home)
        return found

    def _index(self, at: int) -> int:
        return bisect_right(self.begins, at) - 1

    def _tell_share(self, uniform: int, surveyed: int) -> None:
        stretches = len(self.findings.get("tensor-uniform-block", ()))
        if not stretches:
            return
        share = f"{uniform / surveyed:.0%}" if surveyed else "an unknown share"
        detail = (
            f"{share} of its numbers are random bytes where weights never are: encrypted in place, overwritten, or "
            "packed; what was there is not in this file any more, look for an older copy"
        )
        self._note("random-weights", self.findings["tensor-uniform-block"][0].offset_bytes or 0, detail)
