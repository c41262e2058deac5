import random
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carver.claims import Claim, Owned, settle, settle_beside
from signatures.verdict import Grade

INTACT, CONSISTENT, DAMAGED, TRUNCATED, UNDECIDED = (
    Grade.INTACT,
    Grade.CONSISTENT,
    Grade.DAMAGED,
    Grade.TRUNCATED,
    Grade.UNDECIDED,
)
GRADES = (INTACT, CONSISTENT, DAMAGED, TRUNCATED, UNDECIDED)
CONTAINERS = ("keras", "npz", "pytorch_zip", "torch_distributed", "zip_archive")
PARTS = {"torch_distributed": "pytorch_zip"}


def a_claim(form: str, grade: Grade, start: int, end: int, *, at: int = 0) -> Claim:
    return Claim(
        start_bytes=start,
        size_bytes=end - start,
        format=form,
        grade=grade,
        container=form in CONTAINERS,
        log_position=(at, 0),
        parts=PARTS.get(form, ""),
    )


def told(owned: Sequence[Owned]) -> list[tuple[str, int, int | None, int | None]]:
    """(format, start, start of its parent, contested at) of each."""
    parents = [None if one.parent is None else owned[one.parent].claim.start_bytes for one in owned]
    return [
        (o.claim.format, o.claim.start_bytes, parent, o.contested_at_bytes)
        for o, parent in zip(owned, parents, strict=True)
    ]


CASES = {
    "keras-zip-with-hdf5-inside": (
        [a_claim("keras", INTACT, 1024, 9000), a_claim("hdf5", CONSISTENT, 1536, 8000)],
        [("keras", 1024, None, None), ("hdf5", 1536, 1024, None)],
    ),
    "a-container-without-checksums-owns-members-on-the-grid": (
        [a_claim("keras", CONSISTENT, 1024, 9000), a_claim("hdf5", CONSISTENT, 1536, 8000)],
        [("keras", 1024, None, None), ("hdf5", 1536, 1024, None)],
    ),
    "a-damaged-container-keeps-its-good-member": (
        [a_claim("keras", DAMAGED, 0, 9000), a_claim("hdf5", INTACT, 512, 8000)],
        [("keras", 0, None, None), ("hdf5", 512, 0, None)],
    ),
    "zip-in-zip-in-zip": (
        [
            a_claim("zip_archive", INTACT, 0, 9000),
            a_claim("pytorch_zip", INTACT, 100, 8000),
            a_claim("hdf5", CONSISTENT, 512, 7000),
        ],
        [("zip_archive", 0, None, None), ("pytorch_zip", 100, 0, None), ("hdf5", 512, 100, None)],
    ),
    "siblings-in-one-zip": (
        [
            a_claim("zip_archive", INTACT, 0, 9000),
            a_claim("hdf5", CONSISTENT, 100, 2000),
            a_claim("onnx", CONSISTENT, 2048, 4000),
        ],
        [("zip_archive", 0, None, None), ("hdf5", 100, 0, None), ("onnx", 2048, 0, None)],
    ),
    "same-start-the-better-grade": (
        [a_claim("npz", TRUNCATED, 512, 9000), a_claim("pytorch_zip", INTACT, 512, 2000)],
        [("pytorch_zip", 512, None, None)],
    ),
    "several-with-one-damaged-before-the-first-of-them": (
        [
            a_claim("pytorch_zip", INTACT, 512, 2000),
            a_claim("torch_distributed", DAMAGED, 512, 9000),
        ],
        [("torch_distributed", 512, None, None)],
    ),
    "several-without-their-end-and-the-first-of-them": (
        [a_claim("torch_distributed", TRUNCATED, 512, 9000), a_claim("pytorch_zip", INTACT, 512, 2000)],
        [("pytorch_zip", 512, None, None)],
    ),
    "several-that-are-damaged-and-a-good-file-of-another-kind": (
        [a_claim("torch_distributed", DAMAGED, 512, 9000), a_claim("hdf5", INTACT, 512, 2000)],
        [("hdf5", 512, None, None)],
    ),
    "several-yield-to-a-longer-one-of-their-parts": (
        [a_claim("torch_distributed", DAMAGED, 512, 900), a_claim("pytorch_zip", INTACT, 512, 2000)],
        [("pytorch_zip", 512, None, None)],
    ),
    "same-start-and-grade-the-format-proper": (
        [a_claim("zip_archive", INTACT, 512, 9000), a_claim("hdf5", INTACT, 512, 9000)],
        [("hdf5", 512, None, None)],
    ),
    "head-and-tail-of-one-file": (
        [a_claim("npz", INTACT, 512, 9000, at=1), a_claim("npz", INTACT, 512, 9000, at=2)],
        [("npz", 512, None, None)],
    ),
    "what-is-not-good-in-a-good-file-is-an-echo": (
        [a_claim("pytorch_zip", INTACT, 0, 9000), a_claim("pytorch_zip", DAMAGED, 1024, 9000)],
        [("pytorch_zip", 0, None, None)],
    ),
    "what-begins-in-proven-bytes-and-is-not-good-is-chance": (
        [a_claim("pytorch_zip", INTACT, 0, 9000), a_claim("safetensors", TRUNCATED, 1024, 1 << 40)],
        [("pytorch_zip", 0, None, None)],
    ),
    "an-aligned-good-file-contradicts-unproven-bytes": (
        [a_claim("safetensors", CONSISTENT, 0, 90000), a_claim("onnx", CONSISTENT, 4096, 8000)],
        [("safetensors", 0, None, 4096), ("onnx", 4096, None, None)],
    ),
    "the-grid-of-a-shifted-image-counts-as-well": (
        [a_claim("safetensors", CONSISTENT, 63, 90000), a_claim("onnx", CONSISTENT, 63 + 4096, 8000)],
        [("safetensors", 63, None, 63 + 4096), ("onnx", 63 + 4096, None, None)],
    ),
    "a-good-file-off-the-grid-is-a-child": (
        [a_claim("safetensors", CONSISTENT, 0, 90000), a_claim("onnx", CONSISTENT, 4097, 8000)],
        [("safetensors", 0, None, None), ("onnx", 4097, 0, None)],
    ),
    "the-next-owner-out-has-another-grid": (
        [
            a_claim("safetensors", CONSISTENT, 0, 90000),
            a_claim("onnx", CONSISTENT, 513, 80000),
            a_claim("hdf5", CONSISTENT, 1025, 8000),
        ],
        [("safetensors", 0, None, None), ("onnx", 513, 0, 1025), ("hdf5", 1025, 0, None)],
    ),
    "behind-a-foreign-file-a-damaged-one-is-no-echo": (
        [
            a_claim("safetensors", CONSISTENT, 0, 90000),
            a_claim("onnx", CONSISTENT, 4096, 8000),
            a_claim("hdf5", DAMAGED, 10240, 20000),
        ],
        [("safetensors", 0, None, 4096), ("onnx", 4096, None, None), ("hdf5", 10240, None, None)],
    ),
    "what-an-intact-file-contains-is-proven-with-it": (
        [
            a_claim("zip_archive", INTACT, 0, 90000),
            a_claim("safetensors", CONSISTENT, 512, 80000),
            a_claim("onnx", CONSISTENT, 4096, 8000),
        ],
        [("zip_archive", 0, None, None), ("safetensors", 512, 0, None), ("onnx", 4096, 512, None)],
    ),
    "in-part-over-a-proven-file-the-later-head-is-not-its-own": (
        [a_claim("hdf5", INTACT, 0, 5000), a_claim("safetensors", CONSISTENT, 4096, 9000)],
        [("hdf5", 0, None, None), ("safetensors", 4096, None, 4096)],
    ),
    "in-part-over-an-unproven-file-the-later-wins": (
        [a_claim("safetensors", CONSISTENT, 0, 5000), a_claim("onnx", CONSISTENT, 4096, 9000)],
        [("safetensors", 0, None, 4096), ("onnx", 4096, None, None)],
    ),
    "two-proven-files-in-part": (
        [a_claim("hdf5", INTACT, 0, 5000), a_claim("hdf5", INTACT, 4096, 9000)],
        [("hdf5", 0, None, None), ("hdf5", 4096, None, None)],
    ),
    "in-part-over-a-proven-sibling": (
        [
            a_claim("keras", DAMAGED, 0, 9000),
            a_claim("hdf5", INTACT, 100, 4000),
            a_claim("onnx", CONSISTENT, 3000, 8000),
        ],
        [("keras", 0, None, None), ("hdf5", 100, 0, None), ("onnx", 3000, 0, 3000)],
    ),
    "siblings-that-overlap-in-part": (
        [
            a_claim("keras", DAMAGED, 0, 9000),
            a_claim("onnx", CONSISTENT, 100, 4000),
            a_claim("onnx", CONSISTENT, 3000, 8000),
        ],
        [("keras", 0, None, None), ("onnx", 100, 0, 3000), ("onnx", 3000, 0, None)],
    ),
    "neighbours-do-not-touch": (
        [a_claim("hdf5", CONSISTENT, 0, 4096), a_claim("hdf5", CONSISTENT, 4096, 8192)],
        [("hdf5", 0, None, None), ("hdf5", 4096, None, None)],
    ),
    "undecided-is-kept": (
        [a_claim("hdf5", UNDECIDED, 512, 512), a_claim("onnx", CONSISTENT, 4096, 9000)],
        [("hdf5", 512, None, None), ("onnx", 4096, None, None)],
    ),
    "undecided-inside-a-good-file-is-its-child": (
        [a_claim("safetensors", CONSISTENT, 0, 9000), a_claim("hdf5", UNDECIDED, 512, 512)],
        [("safetensors", 0, None, None), ("hdf5", 512, 0, None)],
    ),
    "undecided-right-behind-a-file-is-no-child": (
        [a_claim("npz", INTACT, 0, 512), a_claim("hdf5", UNDECIDED, 512, 512)],
        [("npz", 0, None, None), ("hdf5", 512, None, None)],
    ),
    "a-truncated-file-reaches-over-good-ones": (
        [
            a_claim("safetensors", TRUNCATED, 0, 1 << 30),
            a_claim("hdf5", INTACT, 4096, 8000),
            a_claim("onnx", CONSISTENT, 8192, 9000),
        ],
        [("safetensors", 0, None, 4096), ("hdf5", 4096, None, None), ("onnx", 8192, None, None)],
    ),
    "a-truncated-container-owns-no-file-on-the-grid": (
        [
            a_claim("zip_archive", TRUNCATED, 0, 1 << 30),
            a_claim("hdf5", INTACT, 100, 4000),
            a_claim("onnx", CONSISTENT, 8192, 9000),
        ],
        [("zip_archive", 0, None, 8192), ("hdf5", 100, 0, None), ("onnx", 8192, None, None)],
    ),
    "damaged-beside-damaged": (
        [a_claim("hdf5", DAMAGED, 0, 9000), a_claim("safetensors", DAMAGED, 4096, 8000)],
        [("hdf5", 0, None, None), ("safetensors", 4096, None, None)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_contested_bytes_are_settled_by_the_rules(case: str) -> None:
    claims, wanted = CASES[case]
    assert told(settle(claims)) == wanted


def test_the_innermost_contradicting_format_is_named() -> None:
    claims, _ = CASES["an-aligned-good-file-contradicts-unproven-bytes"]
    assert settle(claims)[0].contested_by == "onnx"


@pytest.mark.parametrize(
    ("owner", "echo", "dropped"),
    [
        (INTACT, CONSISTENT, True),
        (DAMAGED, CONSISTENT, True),
        (DAMAGED, DAMAGED, True),
        (TRUNCATED, TRUNCATED, True),
        (TRUNCATED, UNDECIDED, True),
        (TRUNCATED, CONSISTENT, False),  # the better of two stories
    ],
)
def test_a_file_read_from_its_own_inner_record_is_dropped(owner: Grade, echo: Grade, dropped: bool) -> None:
    claims = [a_claim("npz", owner, 0, 9000), a_claim("npz", echo, 1000, 9000)]
    assert len(settle(claims, lambda claim: [claim.start_bytes, 1000] if claim.start_bytes == 0 else [])) == 2 - dropped


def test_an_explained_signature_beyond_its_file_explains_nothing() -> None:
    claims = [a_claim("npz", INTACT, 0, 900), a_claim("npz", INTACT, 1000, 9000)]
    assert len(settle(claims, lambda claim: [1000])) == 2


def test_only_claims_with_others_inside_are_asked_what_they_explain() -> None:
    asked: list[int] = []

    def explained(claim: Claim) -> list[int]:
        asked.append(claim.start_bytes)
        return []

    settle(
        [
            a_claim("npz", INTACT, 0, 900),
            a_claim("npz", INTACT, 1000, 9000),
            a_claim("hdf5", CONSISTENT, 1100, 2000),
            a_claim("hdf5", CONSISTENT, 2100, 3000),
        ],
        explained,
    )
    assert asked == [1000]


some_claims = st.lists(
    st.builds(
        lambda form, grade, sector, shift, size, at: a_claim(
            form, grade, sector * 512 + shift, sector * 512 + shift + size, at=at
        ),
        form=st.sampled_from(("hdf5", "safetensors", "keras", "zip_archive", "pytorch_zip", "torch_distributed")),
        grade=st.sampled_from(GRADES),
        sector=st.integers(0, 8),
        shift=st.sampled_from((0, 0, 1, 63)),
        size=st.integers(0, 5000),
        at=st.integers(0, 3),
    ),
    max_size=14,
)


@given(some_claims, st.randoms(use_true_random=False))
def test_the_order_of_the_claims_changes_nothing(claims: list[Claim], shuffler: random.Random) -> None:
    shuffled = list(claims)
    shuffler.shuffle(shuffled)
    assert settle(shuffled) == settle(claims)


@given(some_claims)
def test_every_parent_comes_first_and_holds_its_child(claims: list[Claim]) -> None:
    owned = settle(claims)
    assert [o.claim.start_bytes for o in owned] == sorted({o.claim.start_bytes for o in owned})
    for index, one in enumerate(owned):
        if one.parent is not None:
            parent = owned[one.parent].claim
            assert one.parent < index
            assert parent.start_bytes <= one.claim.start_bytes
            assert one.claim.end_bytes <= parent.end_bytes
            assert one.claim.start_bytes < parent.end_bytes


@given(some_claims)
def test_no_good_claim_vanishes_unless_a_better_one_has_its_start_or_it_is_a_part(claims: list[Claim]) -> None:
    kept = {one.claim.start_bytes: one.claim for one in settle(claims)}
    for claim in claims:
        if claim.grade.good:
            stands = kept[claim.start_bytes]
            better = GRADES.index(stands.grade) <= GRADES.index(claim.grade)
            assert better or stands.end_bytes > claim.end_bytes


@given(some_claims)
def test_proven_files_are_never_contested_and_contests_lie_inside(claims: list[Claim]) -> None:
    for one in settle(claims):
        if one.contested_at_bytes is not None:
            assert one.claim.grade is not INTACT
            assert one.claim.start_bytes <= one.contested_at_bytes < one.claim.end_bytes


@given(some_claims)
def test_where_no_two_good_files_overlap_none_is_touched(claims: list[Claim]) -> None:
    good = [replace(claim, start_bytes=i << 20) for i, claim in enumerate(claims) if claim.grade.good]
    assert settle(good) == [Owned(claim=claim) for claim in good]


@pytest.mark.parametrize("grade", GRADES)
def test_work_grows_with_the_claims_not_with_their_square(grade: Grade) -> None:
    """Ten thousand claims that all reach the image's end: counted in calls, not in seconds."""
    count, end = 10_000, 1 << 40
    claims = [a_claim("zip_archive", grade, 512 * i, end) for i in range(count)]
    calls = 0

    def count_calls(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_calls)
    try:
        settle(claims, lambda claim: ())
    finally:
        sys.setprofile(None)
    assert calls < 100 * count


def beside(side: list[tuple[int, int]], *others: Claim) -> tuple[list[int], dict[int, int]]:
    """Starts of the side files that stand, and by index of what stands around one its start."""
    claims = [a_claim("model_json", CONSISTENT, start, end) for start, end in side]
    found, inside = settle_beside(claims, settle(others))
    return [one.claim.start_bytes for one in found], {index: claim.start_bytes for index, claim in inside.items()}


@pytest.mark.parametrize(
    ("side", "others", "found", "inside"),
    [
        ([(512, 600), (5120, 5200)], [a_claim("gguf", INTACT, 1024, 5120)], [512, 5120], {}),
        ([(1536, 1600)], [a_claim("gguf", INTACT, 1024, 5120)], [], {}),
        ([(1536, 1600)], [a_claim("keras", DAMAGED, 1024, 5120)], [], {}),
        ([(1536, 1600), (2048, 2100)], [a_claim("gguf", CONSISTENT, 1024, 5120)], [1536, 2048], {0: 1536}),
        ([(1540, 1600)], [a_claim("gguf", CONSISTENT, 1024, 5120)], [], {}),
        ([(1540, 1600)], [a_claim("gguf", TRUNCATED, 1024, 5120)], [1540], {}),
        ([(512, 2000), (1024, 1100), (2048, 2050)], [], [512, 2048], {}),
        (
            [(2048, 2100), (4608, 4700)],
            [a_claim("gguf", CONSISTENT, 1024, 5120), a_claim("hdf5", CONSISTENT, 4096, 6144)],
            [2048, 4608],
            {0: 2048, 1: 4608},
        ),
    ],
    ids=["outside", "proven", "container", "on-grid", "off-grid", "cut", "nested", "behind-a-contest"],
)
def test_small_files_stand_beside_models_and_not_in_what_owns_them(side, others, found, inside):
    assert beside(side, *others) == (found, inside)
