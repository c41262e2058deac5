import json
import tracemalloc
from xml.etree import ElementTree

import pytest

from carver.listing import listing, load_report, load_truth
from carver.score import as_json, render_junit, render_text, shortfalls
from carver.score import score as score_listings
from imaging.errors import InputError

A, B, C, D = (letter * 64 for letter in "abcd")


def entry(path, sha256=A, start=0, size=100, fmt="hdf5", **more):
    return {"path": path, "format": fmt, "size_bytes": size, "sha256": sha256, "layout": [[start, size]], **more}


def found(path, sha256=A, start=0, size=100, fmt="hdf5", grade="CONSISTENT", **more):
    return entry(path, sha256, start, size, fmt, grade=grade, parent=more.pop("parent", None), **more)


def document(*files):
    return {"schema_version": 1, "files": list(files)}


def score(report, truth):
    return score_listings(listing(report.items(), "report"), listing(truth.items(), "truth"))


def total(report, truth):
    return score(document(*report), document(*truth)).rows[-1]


def test_a_file_with_the_same_hash_and_a_good_grade_came_back():
    row = total([found("x", A)], [entry("t", A.upper())])
    assert (row.recall, row.located_recall, row.precision) == (1, 1, 1)


@pytest.mark.parametrize("grade", ["DAMAGED", "TRUNCATED", "UNDECIDED"])
def test_without_a_good_grade_it_is_only_located_and_claims_nothing(grade):
    row = total([found("x", A, grade=grade)], [entry("t", A)])
    assert (row.recall, row.located_recall, row.precision) == (0, 1, None)


def test_two_copies_in_the_truth_need_two_in_the_report():
    row = total([found("x", A)], [entry("t", A), entry("u", A, start=500)])
    assert (row.exact, row.located, row.truth) == (1, 1, 2)


def test_a_good_file_that_is_nowhere_in_the_truth_is_false():
    made = score(document(found("x", B, start=900)), document(entry("t", A)))
    assert made.rows[-1].precision == 0 and made.false == ("x",) and made.missed == ("t",)


def test_the_exact_layout_is_right_even_under_another_hash():
    row = total([found("x", B, layout=[[0, 40], [40, 60]])], [entry("t", A)])
    assert (row.recall, row.precision) == (0, 1)


def test_children_of_a_true_file_are_neither_true_nor_false():
    report = [
        found("x", A, fmt="zip"),
        found("y", B, start=900, parent="x"),
        found("z", C, start=950, parent="y"),
        found("w", D, start=10, size=20),
    ]
    row = total(report, [entry("t", A)])
    assert (row.claimed, row.right) == (1, 1)


def test_a_child_of_a_false_file_is_false_and_a_ring_of_parents_ends():
    row = total([found("x", B, start=900, parent="y"), found("y", C, start=950, parent="x")], [entry("t", A)])
    assert (row.claimed, row.right) == (2, 0)


def test_a_file_over_a_true_file_s_edge_is_false():
    assert total([found("x", B, start=50, size=100)], [entry("t", A)]).precision == 0


def test_a_child_that_the_truth_lists_counts():
    report = [found("x", A), found("y", B, start=10, size=20, parent="x")]
    row = total(report, [entry("t", A), entry("u", B, start=10, size=20)])
    assert (row.recall, row.claimed, row.right) == (1, 2, 2)


def test_a_true_file_that_is_damaged_need_not_come_back_exactly_and_must_not_be_called_good():
    truth = [entry("t", A, grade="DAMAGED")]
    row = total([found("x", B, grade="DAMAGED")], truth)
    assert (row.recall, row.located_recall, row.precision) == (None, 1, None)
    assert total([found("x", B)], truth).precision == 0


def test_formats_have_rows_of_their_own_and_all_is_last():
    made = score(
        document(found("x", A), found("y", C, start=7000, fmt="onnx")),
        document(entry("t", A), entry("u", B, start=500, fmt="onnx")),
    )
    assert [row.format for row in made.rows] == ["hdf5", "onnx", "all"]
    assert [row.recall for row in made.rows] == [1, 0, 0.5]
    assert [row.precision for row in made.rows] == [1, 0, 0.5]


def test_a_measure_over_nothing_is_a_dash_and_misses_no_bar():
    made = score(document(), document())
    row = made.rows[-1]
    assert (row.recall, row.located_recall, row.precision) == (None, None, None)
    assert "–" in render_text(made) and shortfalls(made, 1.0, 1.0) == []


def test_shortfalls_name_the_format_the_measure_and_the_bar():
    made = score(document(found("x", B, start=900)), document(entry("t", A)))
    assert shortfalls(made, 0.9, None) == [
        "hdf5: recall 0.0000 is below 0.9",
        "all: recall 0.0000 is below 0.9",
    ]
    assert len(shortfalls(made, 0.9, 0.9)) == 4 and shortfalls(made, None, None) == [] and shortfalls(made, 0, 0) == []


def test_the_table_never_rounds_up_to_all_and_shows_no_control_characters():
    truth = [entry(f"t{n}\x1b[2J", f"{n:064x}", start=n * 1000) for n in range(20_001)]
    report = [found(f"x{n}", f"{n:064x}", start=n * 1000) for n in range(20_000)]
    text = render_text(score(document(*report), document(*truth)))
    assert "99.99% (20000/20001)" in text and "missed: t20000⟨U+001B⟩[2J" in text


def test_a_long_list_of_misses_is_bounded():
    text = render_text(score(document(), document(*(entry(f"t{n}", start=n * 1000) for n in range(50)))))
    assert text.count("missed: t") == 20 and "… and 30 more" in text


def test_junit_fails_the_case_that_is_below_its_bar():
    made = score(document(found("x", A), found("y", B, start=900)), document(entry("t\x00", A), entry("u", C)))
    root = ElementTree.fromstring(render_junit(made, 0.5, 0.9).encode())
    assert [suite.get("name") for suite in root] == ["hdf5", "all"]
    assert [suite.get("failures") for suite in root] == ["1", "1"]
    failed = root.find("testsuite/testcase[@name='precision']/failure")
    assert failed is not None and "below 0.9" in failed.get("message")
    assert root.find("testsuite/testcase[@name='recall']/failure") is None


def test_junit_skips_what_cannot_be_measured():
    root = ElementTree.fromstring(render_junit(score(document(), document()), 1.0).encode())
    assert len(root.findall("testsuite/testcase/skipped")) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([1], r"files\[0\] is no object"),
        ([entry("t", sha256=None)], '"sha256" must be text'),
        ([{**entry("t"), "layout": None}], '"layout" must be a list'),
        ([{**entry("t"), "layout": [[0, -1]]}], '"layout" must be a list'),
        ([{**entry("t"), "layout": [[0, 1 << 63]]}], '"layout" must be a list'),
        ([{**entry("t"), "layout": [[True, 1]]}], '"layout" must be a list'),
        ([entry("t", parent=7)], '"parent" must be'),
        ([entry("t", grade="GREAT")], '"grade" must be one of INTACT'),
        ([entry("t", grade=[])], '"grade" must be one of'),
    ],
)
def test_a_malformed_truth_is_refused_with_the_reason(tmp_path, files, said):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document(*files)))
    with pytest.raises(InputError, match=said) as told:
        load_truth(path)
    assert str(path) in str(told.value)


def test_a_file_of_bytes_is_told_as_none_in_plain_words(tmp_path):
    path = tmp_path / "drive.img"
    path.write_bytes(b'{"files": "\xc8\x00')
    with pytest.raises(InputError, match="holds bytes that are no text: it is no truth file"):
        load_truth(path)
    with pytest.raises(InputError, match="holds bytes that are no text: it is no case folder, nor a report"):
        load_report(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", 'no list "files"'),
        ('{"files": 3}', 'no list "files"'),
        ('{"files": [], "schema_version": 2}', "schema_version 2, not 1"),
    ],
)
def test_what_is_no_truth_at_all_is_refused(tmp_path, content, said):
    path = tmp_path / "truth.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        load_truth(path)


def test_a_report_must_grade_its_files(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document(entry("t"))))
    with pytest.raises(InputError, match='"grade" must be'):
        load_report(path)
    with pytest.raises(InputError, match="cannot read"):
        load_report(tmp_path / "none.json")


def test_our_own_report_can_be_scored(tmp_path):
    from carver.report import write_reports
    from tests.carver.recoveries import example

    write_reports(example(), tmp_path)
    report = load_report(tmp_path / "report.json")
    assert score_listings(report, report).rows[-1].recall == 1


def test_a_truth_without_a_layout_is_located_by_its_hash():
    row = total([found("x", A)], [entry("t", A, layout=[])])
    assert (row.recall, row.located_recall) == (1, 1)


def test_the_score_as_json_has_the_shares_and_null_for_nothing():
    made = json.loads(json.dumps(as_json(score(document(found("x", B, start=900)), document(entry("t", A))))))
    assert made["schema_version"] == 1
    assert made["formats"][-1]["format"] == "all" and made["formats"][-1]["precision"] == 0
    assert (made["missed"], made["false"]) == (["t"], ["x"])
    assert as_json(score(document(), document()))["formats"][0]["recall"] is None


def test_small_side_files_count_only_where_the_truth_names_their_format():
    report = document(found("x", A)) | {"side_files": [found("p", B, start=900, fmt="git_lfs_pointer")]}
    assert score(report, document(entry("t", A))).rows[-1].claimed == 1
    row = score(report, document(entry("t", A), entry("u", B, start=900, fmt="git_lfs_pointer"))).rows[-1]
    assert (row.exact, row.claimed, row.right) == (2, 2, 2)


def test_side_files_that_are_no_list_are_refused():
    with pytest.raises(InputError, match="no list"):
        score(document() | {"side_files": {}}, document())


def test_a_truth_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document(entry("t"))), encoding="utf-8-sig")
    assert [file.path for file in load_truth(path).files] == ["t"]


def test_of_a_report_no_more_is_held_than_the_score_needs(tmp_path):
    path, tensor = tmp_path / "report.json", {"name": "w" * 200, "shape": [1, 2, 3], "layout": [[0, 1]] * 4}
    with path.open("w") as file:
        file.write('{"schema_version": 1, "files": [')
        for number in range(2000):
            listed = {**found(f"files/{number}", f"{number:064x}", start=number * 100), "tensors": [tensor] * 40}
            file.write(("," if number else "") + json.dumps(listed))
        file.write("]}")
    assert path.stat().st_size > 20 << 20
    tracemalloc.start()
    listed = load_report(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(listed.files) == 2000 and peak_bytes < 12 << 20


def test_a_layout_within_one_of_several_runs_lies_inside_and_one_across_them_does_not():
    truth = [entry("t", A, layout=[[0, 100], [300, 100]]), entry("u", B, start=1000)]
    assert total([found("x", C, start=310, size=20)], truth).claimed == 0
    assert total([found("x", C, start=90, size=220)], truth).claimed == 1
    assert total([found("x", C, layout=[[90, 10], [300, 10]])], truth).claimed == 0
