"""Rule: one family of models by the names that its library writes.

A rule's words are dotted runs of whole parts of a tensor's name in which every number is "#": `layers.#.attn` fits
`decoder.layers.11.attn.weight`, whatever stands before and behind. A run that begins with "^" stands at the beginning
of a name, behind nothing but what wraps a whole model (`carver.identify.names`): `layer#.#.conv#` at the beginning is
a ResNet, further in it is the ResNet inside something else. All of `has` must be in a file, none of `lacks`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One family by its names.

    Attributes:
        family: for people; two of them ("BEiT or EVA") where the names are the same.
        has: runs of name parts that must all be there.
        lacks: runs of which none may be there.
        part: it tells of a part of the file (an adapter), not of most of it.
        alone: it tells of a file only that holds no weights (the state of an optimizer).
    """

    family: str
    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    part: bool = False
    alone: bool = False


def rule(family: str, *has: str, lacks: tuple[str, ...] = (), part: bool = False, alone: bool = False) -> Rule:
    """Return a rule, short to write."""
    return Rule(family=family, has=has, lacks=lacks, part=part, alone=alone)
