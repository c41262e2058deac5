import dataclasses
import json
import subprocess
import sys

import pytest

from carver.report import Report, as_json, reports, summary, write_report, write_reports
from carver.report.as_json import LINE_COLUMNS
from carver.visible import shortened, visible
from imaging.errors import OutputError
from signatures.verdict import Grade
from tests.carver.recoveries import HOSTILE, MIB, carved, example, runs


def render(recovery):
    return "".join(as_json.render(recovery))


def document():
    return json.loads(render(example()))


def test_the_keys_are_the_schemas():
    top = document()
    assert {"schema_version", "tool", "run", "source", "files", "rejected"} <= set(top)
    assert top["schema_version"] == 1
    assert set(top["source"]) == {"locator", "size_bytes", "identity", "unread"}
    assert top["source"]["unread"][0] == [18 * MIB, 8192, "-"]
    file = top["files"][3]
    wanted = "path format grade layout_basis data_evidence size_bytes sha256 layout parent name_source findings tensors"
    assert set(wanted.split()) <= set(file)
    assert file["layout"] == [[16 * MIB, 4 * MIB], [30 * MIB, 2 * MIB]]
    assert file["findings"][0]["code"] == "unread" and file["findings"][1]["offset_bytes"] is None
    assert set(file["tensors"][0]) == {"name", "dtype", "shape", "offset_bytes", "size_bytes", "grade"}


def test_only_a_tensor_in_several_pieces_has_a_layout():
    plain, chunked, _, empty = document()["files"][3]["tensors"]
    assert "layout" not in plain and len(chunked["layout"]) == 4
    assert empty["offset_bytes"] is None and empty["size_bytes"] == 0


def test_md5_stands_only_where_it_was_asked_for():
    files = document()["files"]
    assert files[0]["md5"].startswith("d41d") and "md5" not in files[1]


def test_what_a_file_is_a_copy_of_and_shares_bytes_with_is_told_where_there_is_such_a_file():
    files = (
        carved("box", Grade.INTACT, runs((0, 100)), sha256="ab" * 32),
        carved("inside", Grade.INTACT, runs((10, 50)), sha256="cd" * 32, parent="box"),
        carved("again", Grade.INTACT, runs((512, 100)), sha256="ab" * 32),
        carved("over", Grade.DAMAGED, runs((600, 512)), sha256="ef" * 32),
        carved("third", Grade.INTACT, runs((4096, 100)), sha256="ab" * 32),
    )
    top = json.loads(render(example(files=files)))
    assert [file.get("copy_of") for file in top["files"]] == [None, None, "box", None, "box"]
    assert [file.get("shares_bytes_with") for file in top["files"]] == [None, None, "over", "again", None]
    assert (top["summary"]["copies"], top["summary"]["sharing_bytes"]) == (2, 2)
    assert "copy_of" not in top["files"][0] and "shares_bytes_with" not in top["files"][0]


def test_files_that_are_alike_in_a_part_of_their_hash_only_are_no_copies(monkeypatch):
    monkeypatch.setattr(summary, "HASH_MASK", 0)
    files = tuple(carved(path, Grade.INTACT, runs((at, 9)), sha256=path * 64) for path, at in (("a", 0), ("b", 512)))
    assert ["copy_of" in file for file in json.loads(render(example(files=files)))["files"]] == [False, False]


def test_unknown_unread_is_null_and_not_an_empty_list():
    source = dataclasses.replace(example().source, unread=None)
    top = json.loads(render(example(source=source)))
    assert top["source"]["unread"] is None and top["summary"]["unread_bytes"] is None


def test_summary_counts_children_apart():
    summary = document()["summary"]
    assert (summary["files"], summary["children"]) == (5, 1)
    assert summary["grades"]["CONSISTENT"] == {"files": 1, "size_bytes": 3 * MIB}
    assert summary["recovered_bytes"] == 21 * MIB
    assert summary["unread_by_status"] == {"*": MIB, "-": 8192, "/": 512, "?": 4 * MIB}


def test_same_input_gives_the_same_bytes_in_another_process():
    code = "from tests.carver.recoveries import example; from carver.report.as_json import render; "
    code += "print(*render(example()), sep='', end='')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert other.stdout == render(example()).encode()


def test_only_the_run_block_differs_between_runs():
    first, second = document(), json.loads(render(example(run={"started": "later"})))
    assert first.pop("run") != second.pop("run") and first == second


def test_text_is_ascii_and_short_values_share_a_line():
    text = render(example())
    assert text.isascii() and "\x1b" not in text
    assert json.loads(text)["files"][4]["path"] == f"files/{HOSTILE}.onnx"
    assert any('"name": "layer0.weight"' in line and '"grade"' in line for line in text.splitlines())
    assert sum(len(line) > LINE_COLUMNS for line in text.splitlines()) < 5


def test_facts_that_json_cannot_hold_become_text():
    facts = {
        "nan": float("nan"),
        "raw": b"\x01",
        "kinds": {"b", "a"},
        "surrogate": "\udc80",
        "none": None,
        "path": object,
    }
    file = dataclasses.replace(example().files[0], facts=facts)
    made = json.loads(render(example(files=(file,))))["files"][0]["facts"]
    assert made["nan"] == "nan" and made["raw"] == "01" and made["kinds"] == ["a", "b"] and made["none"] is None


def test_every_report_is_written_and_may_be_rewritten(tmp_path):
    (tmp_path / "report.json").write_text("older")
    paths = write_reports(example(), tmp_path)
    assert "report.json" in [path.name for path in paths]
    assert [path.name for path in paths] == [report.file_name for report in reports()]
    assert json.loads((tmp_path / "report.json").read_text())["schema_version"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_a_report_that_cannot_be_written_leaves_the_older_one_and_no_rubbish(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        write_reports(example(), tmp_path / "nowhere")
    (tmp_path / "report.json").mkdir()
    with pytest.raises(OutputError, match=r"report\.json"):
        write_report(Report(file_name="report.json", render=as_json.render), example(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_full_destination_is_told_as_such(tmp_path, monkeypatch):
    import errno
    import os

    from imaging.errors import DestinationFullError

    def full(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DestinationFullError):
        write_reports(example(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_does_not_print_is_shown_by_its_code_point():
    assert visible("plain ünïcode 模型") == "plain ünïcode 模型"
    assert visible("a\n\u202eb\x1b\u200b\udc80") == "a⟨U+000A⟩⟨U+202E⟩b⟨U+001B⟩⟨U+200B⟩⟨U+DC80⟩"


def test_a_long_name_keeps_its_ends_and_says_what_is_missing():
    assert shortened("x" * 240) == "x" * 240
    cut = shortened("a" * 500 + "b" * 500)
    assert cut.startswith("aaa") and cut.endswith("bbb") and "760 characters" in cut


def test_a_report_belongs_to_the_user_behind_sudo(tmp_path, monkeypatch):
    handed = []
    monkeypatch.setattr("carver.output.give_to_caller", handed.append)
    write_reports(example(), tmp_path)
    assert len(handed) == len(reports())


def test_models_side_files_and_missing_ones_stand_with_all_their_keys():
    top = document()
    assert top["models"][0]["files"] == ["files/0000000100000_archive.pt"] and top["models"][0]["grade"] == "INTACT"
    assert top["models"][0]["companions"] == [{"path": "files/config.json", "why": "place"}]
    assert top["side_files"][0]["facts"] == {"kind": "config.json"}
    assert top["missing"][0]["sha256"] == "ab" * 32 and top["missing"][1]["size_bytes"] is None
    assert top["summary"]["files"] == 5
