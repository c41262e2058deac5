"""Where torch's writer puts things: from the records that are left, how long a cut file was.

The layout is fully determined by names and sizes in writing order (torch's PyTorchStreamWriter, all eras).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from signatures._zip import CENTRAL_BYTES, LOCAL_BYTES, NARROW_DESCRIPTOR_BYTES, WIDE_DESCRIPTOR_BYTES
from signatures._zip_records import Record

ALIGNMENT_BYTES = 64
PADDING_HEADER_BYTES = 4
ZIP64_FROM_BYTES = 0xFFFFFFFF
TAIL_BYTES = 98  # zip64 end, locator and end
VERSION_BYTES = 2  # "3" and a line end
SERIALIZATION_ID_BYTES = 40


def predicted_size(root: str, records: Sequence[Record], sizes: Mapping[str, int]) -> int | None:
    """Return the length of a torch.save file of which only the beginning is left.

    Args:
        root: the folder of its records.
        records: what is left, in file order; the first must be the file's first.
        sizes: each storage's length by record name, in the order of data.pkl.

    Returns:
        bytes; None when the file is no torch.save (its data.pkl comes first or second) or not laid out by torch.
    """
    whole = [record for record in records if record.whole]
    names = {record.name for record in whole}
    if not whole or not sizes or f"{root}/data.pkl" not in names or whole[0].offset_bytes != 0:
        return None
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        return None
    cursor = whole[-1].end_bytes
    listed = [(record.name, record.size_bytes, record.offset_bytes) for record in whole]
    for name, size_bytes in _remaining(root, names, sizes):
        listed.append((name, size_bytes, cursor))
        cursor = _after(cursor, name, size_bytes)
    return cursor + sum(_entry_bytes(*one) for one in listed) + TAIL_BYTES


def _remaining(root: str, names: set[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield (name, size) of the records still to come, in the order of the era that the names tell."""
    as_pickled = f"{root}/.format_version" in names  # before, storages were sorted as text
    for name in sizes if as_pickled else sorted(sizes):
        if name not in names:
            yield name, sizes[name]
    if f"{root}/version" not in names:
        yield f"{root}/version", VERSION_BYTES
    last = f"{root}/.data/serialization_id"
    if f"{root}/byteorder" in names and last not in names:
        yield last, SERIALIZATION_ID_BYTES


def _after(cursor: int, name: str, size_bytes: int) -> int:
    """Return where the record after this one begins."""
    large, late = size_bytes >= ZIP64_FROM_BYTES, cursor >= ZIP64_FROM_BYTES
    extra_bytes = PADDING_HEADER_BYTES + (4 if large or late else 0) + (16 if large else 0) + (8 if late else 0)
    data = cursor + LOCAL_BYTES + len(name.encode()) + extra_bytes
    data += -data % ALIGNMENT_BYTES
    if size_bytes == 0:
        return data
    return data + size_bytes + (WIDE_DESCRIPTOR_BYTES if large or late else NARROW_DESCRIPTOR_BYTES)


def _entry_bytes(name: str, size_bytes: int, offset_bytes: int) -> int:
    large, late = size_bytes >= ZIP64_FROM_BYTES, offset_bytes >= ZIP64_FROM_BYTES
    zip64_bytes = 4 + (16 if large else 0) + (8 if late else 0) if large or late else 0
    return CENTRAL_BYTES + len(name.encode()) + zip64_bytes
