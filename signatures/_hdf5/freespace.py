"""Free space managers: no data, but checksums that a change must not pass (file format specification, III.F)."""

from __future__ import annotations

from signatures._hdf5.space import CHECKSUM_BYTES, Fields, Space


def check_free_space(space: Space, address: int) -> None:
    """Compare the checksums of a manager's header and of its list of sections.

    Raises:
        Damage: either is not there.
    """
    head_bytes = 14 + 7 * space.length_bytes + space.address_bytes + CHECKSUM_BYTES
    head = space.read_sealed(address, head_bytes, b"FSHD\0", "a free space manager")
    fields = Fields(space, head, space.at(address), position=6)
    fields.raw(4 * space.length_bytes + 8 + space.length_bytes)
    sections, used_bytes = fields.address(), fields.length()
    if sections is not None:
        fields.expect(used_bytes > CHECKSUM_BYTES + 5, "structure-short", "a list of sections with no room for itself")
        space.read_sealed(sections, used_bytes, b"FSSE\0", "a list of free sections")
