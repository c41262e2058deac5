"""What both kinds of version-1 B-tree share: nodes that know their neighbours (file format specification, III.A.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from signatures._hdf5.space import Damage, Space


@dataclass(slots=True)
class Siblings:
    """Whether the nodes of each level, met from left to right, name each other as neighbours.

    Attributes:
        last: for each level, the node met last, and the right neighbour that it names.
    """

    space: Space
    last: dict[int, tuple[int, int]] = field(default_factory=dict)

    def meet(self, address: int, head: bytes) -> None:
        """Compare a node's neighbours; a difference is reported. `head` is the node's first bytes."""
        size, level = self.space.address_bytes, head[5]
        nobody = (1 << 8 * size) - 1
        left = int.from_bytes(head[8 : 8 + size], "little")
        right = int.from_bytes(head[8 + size : 8 + 2 * size], "little")
        before, expected = self.last.get(level, (nobody, address))
        if left != before or expected != address:
            self._report(address)
        self.last[level] = (address, right)

    def close(self) -> None:
        """Compare the last node of each level, which must have no right neighbour."""
        nobody = (1 << 8 * self.space.address_bytes) - 1
        for address, right in self.last.values():
            if right != nobody:
                self._report(address)

    def _report(self, address: int) -> None:
        self.space.damage(Damage("tree", self.space.at(address), "a tree's node names a wrong neighbour"))
