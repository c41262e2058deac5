"""Parts: the recovered files that hold weights, each with what it takes to tell which belong together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from carver.identify.anatomy import DATA_PRODUCERS, Anatomy, examine, is_weight
from carver.recovery import CarvedFile
from signatures.tensors import Tensor, names_digest

ELSEWHERE = frozenset(
    ("tf_checkpoint_index", "onnx_external_data")
)  # the one half of a model whose other half tells all
LOADED_WHOLE = frozenset(("keras",))  # containers that are one model; a wheel may hold several
CONTAINERS = LOADED_WHOLE | {"zip_archive"}
PLAIN_ARRAYS = frozenset(("numpy_array", "npz"))  # models only where a family's names are known
EXTENT_BITS = 251  # a prime; a transformer has ten different extents


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file that holds weights.

    Attributes:
        number: of the file in the record.
        file: it; of a part that waits for others without its tensors.
        files: the record's.
        anatomy: of its tensors.
        tensor_count: how many there are.
        names_sha256: digest of their names.
        build: digest of names, dtypes and shapes: equal for two versions of one model.
        extents: a bit for each extent of its tensors (`extent_bit`).
        width: the commonest extent of its weight matrices: a transformer's hidden size; None without matrices.
    """

    number: int
    file: CarvedFile
    files: Sequence[CarvedFile]
    anatomy: Anatomy
    tensor_count: int
    names_sha256: str
    build: bytes
    extents: int
    width: int | None

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors, read again where they were left out."""
        return self.file.tensors or self.files[self.number].tensors

    def waiting(self) -> Part:
        """Return the part without its tensors, of which many can be held."""
        return replace(self, file=replace(self.file, tensors=()))


def parts_of(files: Sequence[CarvedFile], copies: dict[str, list[str]]) -> Iterator[Part]:
    """Yield the parts among the files that stand by themselves, in order; of equal ones the first.

    Args:
        files: the record's.
        copies: gets the paths of the equal ones meanwhile, by the path of the first.
    """
    first: dict[bytes, str] = {}
    paths = set()
    empty: dict[str, int] = {}  # containers whose weights are in files of their own
    for number, file in enumerate(files):  # containers come before what is in them
        inside = file.parent in paths
        paths.add(file.path)
        if file.format in CONTAINERS and not file.tensors:
            empty[file.path] = number
        if not file.tensors or (inside and file.parent not in empty):
            continue
        if inside and files[empty[str(file.parent)]].format in LOADED_WHOLE:
            file = _with_weights(files[empty.pop(str(file.parent))], file)
        held = first.setdefault(bytes.fromhex(file.sha256), file.path)
        if held != file.path:
            copies.setdefault(held, []).append(file.path)
        elif (part := _part(number, file, files)) is not None:
            yield part


def _with_weights(container: CarvedFile, inside: CarvedFile) -> CarvedFile:
    """Return a container as the model that it is, with the weights of the file inside it."""
    return replace(container, tensors=inside.tensors, facts={**inside.facts, **container.facts})


def _part(number: int, file: CarvedFile, files: Sequence[CarvedFile]) -> Part | None:
    """Return a file as a part; None where it holds data rather than a model."""
    producer = file.facts.get("producer")
    if file.format in ELSEWHERE:
        return None
    if isinstance(producer, str) and producer.startswith(DATA_PRODUCERS):
        return None
    anatomy = examine(file.tensors, file.facts)
    if not anatomy.parameters and not anatomy.uncounted:
        return None
    if file.format in PLAIN_ARRAYS and not anatomy.family:
        return None
    return Part(
        number=number,
        file=file,
        files=files,
        anatomy=anatomy,
        tensor_count=len(file.tensors),
        names_sha256=names_digest(tensor.name for tensor in file.tensors),
        build=_build(file),
        extents=_extents(file),
        width=_width(file),
    )


def _build(file: CarvedFile) -> bytes:
    told = sorted((tensor.name, tensor.dtype, tensor.shape) for tensor in file.tensors)
    return hashlib.sha256(json.dumps([file.format, told]).encode()).digest()


def extent_bit(extent: int) -> int:
    """Return the bit that stands for an extent; others may share it, so only a bit that is not there tells."""
    return 1 << extent % EXTENT_BITS


def _extents(file: CarvedFile) -> int:
    bits = 0
    for extent in {extent for tensor in file.tensors for extent in tensor.shape}:
        bits |= extent_bit(extent)
    return bits


def _width(file: CarvedFile) -> int | None:
    extents: Counter[int] = Counter()
    for tensor in file.tensors:
        if len(tensor.shape) == 2 and is_weight(tensor):
            extents.update(set(tensor.shape))
    return max(extents, key=lambda extent: (extents[extent], -extent), default=None)


def tensor_names(parts: Sequence[Part]) -> set[str]:
    """Return the names of all tensors of some parts."""
    return {tensor.name for part in parts for tensor in part.tensors()}
