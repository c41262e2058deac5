"""Elsewhere: which recovered files hold what a damaged one has lost.

Two files hold the same tensor when its name, dtype and shape are the same. Whether they are copies, or versions of one
model, the tensors tell that are whole in both: they are compared byte for byte. Nothing is put together by itself: of
two versions that would make a model that loads and is wrong.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from carver.identify.checkpoints import DATA
from carver.recovery import CarvedFile, Elsewhere, OtherCopy
from imaging.errors import Interrupted
from imaging.extent import Extent, ExtentSet, Layout, span
from imaging.source import RawImage
from imaging.window import Window
from signatures.tensors import Tensor
from signatures.verdict import Finding, Grade

Key: TypeAlias = tuple[str, str, tuple[int, ...]]

HURT = (Grade.DAMAGED, Grade.TRUNCATED)
TOLD_IN_TENSORS = frozenset(
    (
        "tensor-uniform-block",
        "tensor-zero-run",
        "tensor-byte-run",
        "tensor-text",
        "tensor-other-contents",
        "tensor-other-type",
        "tensor-foreign-signature",
        "zero-tail",
    )
)  # findings about bytes inside a tensor
RANGE = re.compile(r"(0x[0-9a-f]{1,15})\+(0x[0-9a-f]{1,15})")
MAX_HURT = 200  # files
MAX_COPIES = 4  # of each
MAX_WEIGHED = 8  # files that may be such copies
MAX_NAMED = 100  # tensors of each
MAX_DIFFERING = 10
MIN_SHARED = 8  # tensors, or all there are: files of a few tensors look alike without being one model's
MAX_COMPARED_BYTES = 16 << 30


@dataclass(slots=True)
class _Hurt:
    """A damaged file, and who may help."""

    file: CarvedFile
    lost: dict[Key, Tensor]
    whole: dict[Key, Tensor]
    copies: list[_Other] = field(default_factory=list)


@dataclass(slots=True)
class _Other:
    """A file that has tensors of a damaged one.

    Attributes:
        whole: those of them that are whole in it.
        offers: how many of those are lost in the damaged one.
    """

    path: str
    grade: Grade
    whole: dict[Key, Tensor]
    offers: int
    compared: int = 0
    identical: int = 0
    differing: list[str] = field(default_factory=list)


def elsewhere(
    files: Sequence[CarvedFile], folder: Path, stop: Callable[[], bool] = lambda: False
) -> tuple[Elsewhere, ...]:
    """Return for each damaged file what of it is whole in others.

    Args:
        files: as recovered; gone through twice, one held at a time but for the damaged ones.
        folder: where their paths lead from.
        stop: asked often.

    Raises:
        Interrupted: stopped.
    """
    hurt = list(_hurt(files))
    holders: dict[Key, list[int]] = {}
    for number, one in enumerate(hurt):
        for key in (*one.lost, *one.whole):
            holders.setdefault(key, []).append(number)
    for file in files if hurt else ():
        met = Counter(number for tensor in file.tensors for number in holders.get(_key(tensor), ()))
        for number, shared in met.items():
            _offer(hurt[number], file, shared)
    comparison = _Comparison(folder, stop)
    for one in hurt:
        for copy in one.copies:
            comparison.compare(one, copy)
    return tuple(map(_told, hurt))


def _hurt(files: Iterable[CarvedFile]) -> Iterator[_Hurt]:
    """Yield the files in which something is lost, or may be by what their bytes look like."""
    count = 0
    for file in files:
        odd = [_place(finding) for finding in file.findings if finding.code in TOLD_IN_TENSORS]
        if file.format == DATA:  # the ranks' files have the same names and shapes, and other rows of the tensors
            continue
        if not file.tensors or not (file.grade in HURT or (file.grade is Grade.CONSISTENT and odd)):
            continue
        lost = {_key(tensor): tensor for tensor in file.tensors if not _is_whole(tensor) or _is_hit(tensor, odd)}
        whole = {key: tensor for tensor in file.tensors if (key := _key(tensor)) not in lost and tensor.layout}
        if lost:
            yield _Hurt(file=file, lost=lost, whole=whole)
            count += 1
        if count == MAX_HURT:
            return


def _key(tensor: Tensor) -> Key:
    return tensor.name, tensor.dtype, tensor.shape


def _is_whole(tensor: Tensor) -> bool:
    return Grade(tensor.grade).good


def _is_hit(tensor: Tensor, odd: Sequence[Extent]) -> bool:
    return any(
        extent.offset_bytes < place.end_bytes and place.offset_bytes < extent.end_bytes
        for place in odd
        for extent in tensor.layout
    )


def _place(finding: Finding) -> Extent:
    """Return the bytes that a finding is about: its sentence tells them where they are more than a few."""
    start = finding.offset_bytes or 0
    for told, size in RANGE.findall(finding.detail):
        if int(told, 16) == start:  # a tensor's name may look like a range, too
            return span(start, start + max(1, int(size, 16)))
    return span(start, start + 1)


def _offer(hurt: _Hurt, file: CarvedFile, tensors: int) -> None:
    """Keep a file that has most of the damaged one's tensors and whole what is lost there; of many the best."""
    known = len(hurt.lost) + len(hurt.whole)
    if file.path == hurt.file.path or tensors < max(min(known, MIN_SHARED), known / 2):
        return
    shared = {key: tensor for tensor in file.tensors if (key := _key(tensor)) in hurt.lost or key in hurt.whole}
    whole = {key: tensor for key, tensor in shared.items() if _is_whole(tensor) and tensor.layout}
    offers = sum(key in whole for key in hurt.lost)
    if not offers or _same_bytes(hurt.file, file):
        return
    hurt.copies.append(_Other(path=file.path, grade=file.grade, whole=whole, offers=offers))
    if len(hurt.copies) > MAX_WEIGHED:
        hurt.copies.sort(key=_by_offers)
        del hurt.copies[MAX_COPIES:]


def _by_offers(copy: _Other) -> tuple[int, int]:
    return -copy.offers, list(Grade).index(copy.grade)


def _same_bytes(one: CarvedFile, other: CarvedFile) -> bool:
    """Whether one lies in the other: a file and its container are no copies of each other."""
    place = ExtentSet(one.layout)
    return any(map(place.touches, other.layout))


class _Comparison:
    """Compares tensors of files, as long as that may last."""

    def __init__(self, folder: Path, stop: Callable[[], bool]) -> None:
        self._folder, self._stop, self._left_bytes = folder, stop, MAX_COMPARED_BYTES

    def compare(self, hurt: _Hurt, copy: _Other) -> None:
        """Count which of the tensors that are whole in both have the same bytes."""
        for key, tensor in hurt.whole.items():
            other = copy.whole.get(key)
            if other is None or other.size_bytes != tensor.size_bytes or 2 * tensor.size_bytes > self._left_bytes:
                continue
            self._left_bytes -= 2 * tensor.size_bytes
            digests = {
                self._digest(path, layout)
                for path, layout in ((hurt.file.path, tensor.layout), (copy.path, other.layout))
            }
            copy.compared += 1
            if len(digests) == 1 and None not in digests:
                copy.identical += 1
            elif len(copy.differing) < MAX_DIFFERING:
                copy.differing.append(key[0])

    def _digest(self, path: str, layout: Layout) -> bytes | None:
        """Return a digest of a tensor's bytes; None where the file has not all of them."""
        digest = hashlib.blake2b(digest_size=32)
        with RawImage(self._folder / path) as file:
            window = Window(file, (span(0, file.size_bytes),))
            for extent in layout:
                left_bytes = extent.size_bytes
                for piece in window.chunks(extent.offset_bytes, extent.size_bytes):
                    if self._stop():
                        raise Interrupted("stopped while comparing versions; the same command goes on from here")
                    digest.update(piece)
                    left_bytes -= len(piece)
                if left_bytes:
                    return None
        return digest.digest()


def _told(hurt: _Hurt) -> Elsewhere:
    """Return what is found, the copies with the same bytes first."""
    ordered = sorted(hurt.copies, key=lambda copy: (-_likeness(copy), *_by_offers(copy)))
    sources = {
        key[0]: source
        for key in hurt.lost
        if (source := next((copy.path for copy in ordered if key in copy.whole), None))
    }
    nowhere = [key[0] for key in hurt.lost if key[0] not in sources]
    return Elsewhere(
        path=hurt.file.path,
        hit=len(hurt.lost),
        copies=tuple(
            OtherCopy(
                path=copy.path,
                grade=copy.grade,
                offers=copy.offers,
                compared=copy.compared,
                identical=copy.identical,
                differing=tuple(copy.differing) if 2 * copy.identical > copy.compared else (),
            )
            for copy in ordered[:MAX_COPIES]
        ),
        found=len(sources),
        sources=tuple(list(sources.items())[:MAX_NAMED]),
        nowhere=tuple(nowhere[:MAX_NAMED]),
    )


def _likeness(copy: _Other) -> float:
    return copy.identical / copy.compared if copy.compared else 0.0
