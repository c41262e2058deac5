"""files.csv: every file on a line, and the page that cites it."""

import csv
import hashlib
import io
from dataclasses import replace

import pytest

from carver.report import as_csv, as_html
from carver.report.summary import summarise
from signatures.verdict import Finding, Grade
from tests.carver.recoveries import HOSTILE, carved, example, runs


def rows(recovery):
    return list(csv.DictReader(io.StringIO("".join(as_csv.render(recovery)))))


def page(recovery):
    return "".join(as_html.render(recovery))


def test_every_file_is_on_a_line_under_its_number_and_the_small_ones_without():
    recovery = example()
    found = rows(recovery)
    assert [row["number"] for row in found] == ["1", "2", "3", "4", "5", "6", ""]
    assert [row["sha256"] for row in found] == [file.sha256 for file in (*recovery.files, *recovery.side_files)]
    damaged = found[3]
    assert (damaged["grade"], damaged["tensors"], damaged["tensors_hit"]) == ("DAMAGED", "4", "2")
    assert damaged["findings"] == "unread crc-mismatch"
    assert (damaged["offset_bytes"], damaged["extents"], damaged["present_bytes"]) == (
        str(16 << 20), "2", str(6 << 20),
    )  # fmt: skip
    assert found[1]["parent"] == found[0]["path"] and found[0]["md5"] and not found[1]["md5"]


@pytest.mark.parametrize("path", ["=1+1", "+x", "-x", "@x", HOSTILE, 'a,"b'])
def test_a_name_is_neither_computed_nor_breaks_its_line(path):
    text = "".join(as_csv.render(example(files=(carved(path, Grade.INTACT, runs((0, 9))),), side_files=())))
    assert len(text.splitlines()) == 2 and "\x1b" not in text
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["path"][0] not in "=+-@" and len(row) == len(as_csv.COLUMNS)


def test_a_file_of_which_nothing_is_there_has_no_place():
    (row,) = rows(example(files=(carved("a", Grade.UNDECIDED, ()),), side_files=()))
    assert row["offset_bytes"] == "" and row["extents"] == "0"


def test_a_copy_and_files_that_share_bytes_name_each_other():
    files = (
        carved("a", Grade.INTACT, runs((0, 100)), sha256="ab" * 32),
        carved("b", Grade.INTACT, runs((512, 100)), sha256="ab" * 32),
        carved("c", Grade.DAMAGED, runs((600, 512)), sha256="cd" * 32),
    )
    found = rows(example(files=files))
    assert [(row["copy_of"], row["shares_bytes_with"]) for row in found] == [("", ""), ("a", "c"), ("", "b"), ("", "")]


def test_the_page_names_the_lists_hash_so_that_a_signature_covers_it():
    recovery = example()
    digest = hashlib.sha256("".join(as_csv.render(recovery)).encode()).hexdigest()
    assert digest in page(recovery) and "Every file is in files.csv" in page(recovery)
    changed = replace(recovery.files[0], findings=(Finding(code="another"),))
    assert digest not in page(replace(recovery, files=(changed, *recovery.files[1:])))


def many():
    sizes = [100, 900, 300, 800, 200, 700]
    files = [carved(f"f{n}", Grade.CONSISTENT, runs((n * 4096, size))) for n, size in enumerate(sizes)]
    files[4] = replace(files[4], grade=Grade.DAMAGED)
    files.append(carved("inside", Grade.TRUNCATED, runs((4096, 10)), parent="f1"))
    return example(files=tuple(files), models=(), side_files=(), missing=())


def test_of_too_many_files_the_page_lists_the_bad_ones_and_the_largest_under_their_numbers(monkeypatch):
    monkeypatch.setattr(as_html, "MAX_FILES", 4)
    recovery = many()
    assert as_html.listed(recovery, summarise(recovery)) == [1, 3, 4, 6]
    text = page(recovery)
    assert "This page lists 4 of 7 files: those that are not good, and the largest of the others." in text
    assert all(f'id="file-{number}"' in text for number in (2, 4, 5, 7)) and 'id="file-1"' not in text
    assert [row["number"] for row in rows(recovery)] == [str(number) for number in range(1, 8)]
    assert text.count('id="damage-') == 2


def test_a_page_that_has_room_lists_all():
    text = page(many())
    assert "This page lists" not in text and all(f'id="file-{number}"' in text for number in range(1, 8))


def test_of_more_bad_files_than_the_page_lists_all_are_counted(monkeypatch):
    monkeypatch.setattr(as_html, "MAX_FILES", 1)
    monkeypatch.setattr(as_html, "MAX_DAMAGED_FILES", 1)
    assert "… and 1 more files; all of them are in report.json" in page(many())


def test_a_finding_that_a_file_has_two_hundred_times_is_named_once():
    codes = ("tensor-uniform-block",) * 200 + ("random-weights", "tensor-uniform-block")
    hurt = carved("a", Grade.DAMAGED, runs((0, 9)), findings=tuple(Finding(code=code) for code in codes))
    assert rows(example(files=(hurt,)))[0]["findings"] == "tensor-uniform-block random-weights"


def test_what_cannot_be_reached_is_counted_in_a_column_of_its_own():
    lost = carved("a", Grade.DAMAGED, runs((0, 9)), facts={"lost_objects": 65})
    assert [row["lost_objects"] for row in rows(example(files=(lost,)))] == ["65", "0"]
