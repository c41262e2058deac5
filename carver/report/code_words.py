"""Code words: what each finding and each reason of rejection means, and what to do about the findings.

The codes that call for the same step are one group. A test holds the groups against every code in the validators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from carver.report.structure_words import STRUCTURE


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeGroup:
    """Codes that call for the same step.

    Attributes:
        step: what to do, with {files} where their number goes; "" where nothing need be done.
        means: what each code means, in half a sentence.
    """

    step: str
    means: Mapping[str, str]


IMAGE = CodeGroup(
    step="Parts of {files} could not be read from the image itself: the disk that it lies on fails, or the image was "
    "cut short. Copy the image to another disk (carver image does that, too) and carve the copy.",
    means={
        "read-fault": "the image could not be read while the file was examined",
        "unreadable-image": "the image could not be read here when the file was written; zeros stand in its place",
    },
)
UNREAD = CodeGroup(
    step="Parts of {files} were never read from the drive. missing.map in the case folder has just those: the imaging "
    "command with -m missing.map -r 3 added tries the drive again there and nowhere else; then carve again.",
    means={"unread": "this was never read from the drive; what stands in the file there is no data"},
)
PIECES = CodeGroup(
    step="Not all bytes in {files} are the file's own (see foreign-file-inside, directory-displaced and the like among "
    "the findings): it was overwritten in part, or lies in several pieces on the drive. Pieces are not put together. "
    "Where the file system is still readable, a tool that knows it (fls and icat of The Sleuth Kit) can give such a "
    "file in its right order; what was overwritten is only in a backup.",
    means={
        "directory-displaced": "bytes are missing in the middle of the file, or foreign ones stand between: its end "
        "lies elsewhere than it says. What comes before the break is in its place, what comes behind is not",
        "foreign-file-inside": "another file begins inside this one: from there on the bytes are not its own. It was "
        "overwritten, or lies in several pieces",
        "missing-head": "the file's own list counts more bytes before this place than are here: its beginning is "
        "missing, or a piece from its middle",
        "overlaps-proven-file": "all of it lies in a file whose contents are proven: it is a remnant, or no such file",
        "tensor-foreign-signature": "another file, or a file system's own data, begins inside a tensor",
    },
)
END = CodeGroup(
    step="Where {files} end cannot be told for certain; the finding names the other place. Should a library refuse "
    "such a file, or miss something in it, try the other length.",
    means={"ambiguous-end": "the file may also end elsewhere: what follows may be its own, or another file's"},
)
ENCRYPTED = CodeGroup(
    step="In {files} there are bytes as random as encrypted ones where weights never are: what ransomware leaves, or "
    "packing. What was there is not in the file any more: look for older copies, snapshots and backups. Keep the file "
    "as it is, too: encrypted bytes can be decrypted, should the key turn up.",
    means={
        "random-weights": "so many of the file's numbers are random bytes that it cannot be chance: encrypted in "
        "place, overwritten or packed",
        "tensor-uniform-block": "bytes as random as encrypted or compressed ones, next to weights that are not",
    },
)
BLANK = CodeGroup(
    step="In {files} there are zeros, one repeated byte, text or other files' bytes among the weights: sectors that "
    "were lost before the image was made, erased flash, a copy that did not finish, or room used again. Another "
    "pass over the drive does not help, unless the map says that it was never read there; look for another copy.",
    means={
        "tensor-byte-run": "one byte repeated inside a tensor, where no design explains it: erased flash, for example",
        "tensor-text": "readable text inside a tensor: another file's",
        "tensor-other-contents": "numbers of all sizes amid a tensor's weights: another file's bytes, as a program, a "
        "picture or 8-bit weights have; nothing proves it",
        "tensor-other-type": "floats of another type than its own inside a tensor: another file's weights",
        "tensor-zero-run": "zeros inside a tensor, from sector edge to sector edge, where no design explains them",
        "zero-tail": "the file ends in zeros: a copy that did not finish, or tensors that are zero by design",
    },
)
CHECKSUM = CodeGroup(
    step="In {files} a checksum was computed that does not agree: bytes under it are wrong beyond doubt, whatever they "
    "look like. Do not use the tensors that are hit; the others stand.",
    means={
        "chunk-checksum": "a chunk of a dataset does not have the checksum that it tells, or does not decompress",
        "crc-mismatch": "the bytes do not have the CRC that the file keeps of them",
        "metadata-checksum": "a structure of the file does not have the checksum that it tells",
        "serialization-id-mismatch": "the records together are not those that were written: some are another file's",
        "superblock-checksum": "the file's first structure does not have the checksum that it tells",
    },
)
CUT = CodeGroup(
    step="The end of {files}, or of parts of them, is not there. See whether the image is as long as the drive; else "
    "the rest lies elsewhere on it (pieces are not put together), or is gone. Tensors that are not hit can be used.",
    means={
        "block-cut": "a block of the index runs past the end",
        "cut-short": "the file ends before its own headers say that it does",
        "directory-cut": "the zip's list of members breaks off",
        "end-missing": "the file ends before its own headers say that it does",
        "header-past-end": "the file ends inside its own header",
        "no-directory": "the zip's list of members, which stands at its end, is not there",
        "part-of-checkpoint-file": "the metadata of a distributed checkpoint tells of more objects in this file",
        "pickle-cut": "the pickle, which names the tensors, breaks off",
        "record-cut": "a member of the zip does not end where it should: its end is missing or was overwritten",
        "structure-cut": "a structure of the file lies behind the end of what is there",
    },
)
BROKEN = CodeGroup(
    step="In {files} structures are broken: what they led to, names and whole tensors among it, may be lost without "
    "being listed as hit. A library may refuse such a file, or leave out tensors without a word: count what it loads "
    "against the model's configuration or an older copy.",
    means=STRUCTURE,
)
OTHER_FILES = CodeGroup(
    step="Data of {files} is kept in other files, which the findings name. Look for those, too: without them the model "
    "does not load, or loads without weights.",
    means={
        "external-data": "tensors are kept in other files",
        "external-link": "a name leads into another file",
        "family-file": "the first of several files that are one",
        "split-file": "only the structure is here; the data is in a second file",
        "virtual-dataset": "a dataset's data lies in other datasets",
    },
)
UNSAFE = CodeGroup(
    step="Unpickling {files} would import or run more than tensors need (unsafe-global and object-array tell what). Do "
    "not do it outside a sandbox, unless you know who made the file.",
    means={
        "object-array": "an array of Python objects, kept as a pickle; carver never loads it",
        "unsafe-global": "loading the file would import something that tensors do not need",
    },
)
UNCHECKED = CodeGroup(
    step="A part of {files} could not be checked: a compression, type or encryption that carver does not undo. Open it "
    "with the library that wrote it; until then the contents are unproven.",
    means={
        "crc-absent": "members were written without a checksum",
        "encrypted": "a member is encrypted by the zip itself; it needs its password",
        "filter-unverified": "data under a compression that carver does not undo",
        "findings-left-out": "there were more findings than are kept",
        "inflate-limit": "more compressed data than is unpacked for one file",
        "method-unknown": "members are packed by a method that carver does not undo",
        "unknown-dtype": "a tensor is of a type that carver does not know",
        "unknown-field": "the file has fields of a later version of its format",
        "unknown-type": "a tensor is of a type that carver does not know",
        "unknown-value": "the module holds a value of a kind that carver does not know",
        "zero-checksum": "zeros under a checksum of zero, which proves nothing",
    },
)
FAILED = CodeGroup(
    step="The examination of {files} failed or ran out of its limits: undecided, and kept as found. Open a copy with "
    "the library of its kind. Where a validator failed or died, that is an error of carver: please report it with the "
    "finding's text.",
    means={
        "budget": "the examination came to a limit: more reads, or more parts, than a file of its kind has",
        "memory": "the examination ran out of its limit on memory",
        "timeout": "the examination ran out of its limit on time",
        "too-many-objects": "the file has more objects, or deeper ones, than any should; the rest was left out",
        "validator-died": "the process that examined it ended by itself",
        "validator-failed": "the examination ended in an error of its own",
    },
)
GUESSED = CodeGroup(
    step="The place of {files} was told by traces, not by proof: try the data with its model, and treat it as a lead.",
    means={
        "data-of-several": "several models tell of this data; it belongs to one of them",
        "found-by-traces": "nothing but traces tells that this is the data of its model",
    },
)
HARMLESS = CodeGroup(
    step="",
    means={
        "bytes-after-end": "bytes that are not zero follow the file in its last sector: slack, as a rule",
        "duplicate-key": "a name stands in the header twice; libraries take the last",
        "duplicate-name": "two members or tensors have the same name; which one a library reads differs",
        "hash-known": "another file on the drive names the SHA-256 of this one: every byte is right",
        "missing-opset": "the model does not tell which operators it needs: its end may be missing",
        "no-end-mark": "the format has no mark at its end: lines that are cut off would not be missed",
        "one-of-several": "one of several parts that follow each other",
        "padding": "the filling between tensors is not zero, as writers leave it",
        "tensor-nan": "a tensor holds values that are not numbers: damage, or a training that diverged",
        "unclosed": "the writer never closed the file: the last of what was written may be missing, and HDF5 may "
        "refuse to open it until `h5clear -s` was run on a copy",
        "unlisted-record": "a member of the zip is not in the zip's list: an older version of it, as a rule",
        "unsorted-offsets": "the tensors do not lie in the order of the header",
    },
)
GROUPS = (
    *(IMAGE, UNREAD, PIECES, ENCRYPTED, BLANK, CHECKSUM, CUT, BROKEN, END, OTHER_FILES, UNSAFE, UNCHECKED, FAILED),
    *(GUESSED, HARMLESS),
)
MEANS: Mapping[str, str] = {code: words for group in GROUPS for code, words in group.means.items()}
_NUMBERS = {code: number for number, group in enumerate(GROUPS) for code in group.means}


def meaning(code: str) -> str:
    """Return what a code means, also one with its format in front as rejections are counted; "" for an unknown one."""
    return MEANS.get(code.rpartition(":")[2], "")


def groups_of(codes: Iterable[str]) -> set[int]:
    """Return the numbers of the groups that some codes are of."""
    return {_NUMBERS[code] for code in codes if code in _NUMBERS}
