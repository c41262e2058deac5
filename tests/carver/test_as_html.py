import dataclasses
import re
from html.parser import HTMLParser

import pytest

from carver.amounts import human_size
from carver.recovery import CaseMetadata
from carver.report import as_html, wording
from carver.report.as_html import report_id
from carver.report.summary import summarise
from imaging.extent import Extent
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis
from tests.carver.recoveries import HOSTILE, MIB, carved, example, runs, tensor

VOID = {"meta", "col", "br", "link", "img", "input", "hr"}


def render(recovery):
    return "".join(as_html.render(recovery))


class Page(HTMLParser):
    """Reads a page, checks that its elements nest, and keeps tags, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.pieces, self.ids = [], set(), [], [], set()
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids |= {value for key, value in attrs if key == "id"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())


def page(**changes):
    return Page(render(example(**changes)))


def test_the_page_needs_nothing_from_outside_and_runs_nothing():
    made = page()
    assert not made.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "foreignobject"}
    for key, value in made.attributes:
        assert not key.startswith("on") and key not in ("src", "srcset", "action")
        assert key not in ("href", "xlink:href") or value.startswith("#")
    style = re.search(r"<style>(.*?)</style>", render(example()), re.S).group(1)
    assert "@import" not in style and "//" not in style
    assert all(target.startswith("#p-") for target in re.findall(r"url\((.*?)\)", style))


def test_links_lead_somewhere_and_ids_are_unique():
    made = page()
    assert {value[1:] for key, value in made.attributes if key == "href"} <= made.ids
    ids = [value for key, value in made.attributes if key == "id"]
    assert len(ids) == len(set(ids))


def test_text_from_inside_files_is_escaped_and_made_visible():
    text = render(example())
    assert "<script>" not in text and "\u202e" not in text and "\x1b" not in text and "\u200b" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+000A⟩⟨U+202E⟩gnp.exe⟨U+001B⟩[31m⟨U+200B⟩" in text
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)


def test_every_foreign_field_may_be_hostile():
    bad = f"{HOSTILE}\"'><b>"
    recovery = example(
        tool={bad: bad},
        run={bad: {bad: [bad]}},
        case=CaseMetadata(case=bad, evidence=bad, examiner=bad, organisation=bad, notes=bad),
        rejected={bad: 1},
        source=dataclasses.replace(example().source, locator=bad, identity={bad: bad, "model": bad}),
        files=(
            carved(
                bad,
                Grade.DAMAGED,
                runs((0, 512)),
                format=bad,
                name_source=bad,
                sha256=bad,
                md5=bad,
                parent="bad",
                findings=(Finding(code=bad, detail=bad),),
                tensors=(dataclasses.replace(tensor(bad, (0, 4), grade=bad), dtype=bad),),
            ),
        ),
    )
    text = render(recovery)
    assert "script" not in Page(text).tags
    assert text.count("<b>") == 2  # the numbers of the summary are the page's own
    assert "\u202e" not in text and "\x1b" not in text


def test_the_summary_says_in_front_what_came_back():
    assert (
        "5 files came back: 1 proven intact, 1 structure complete but contents unproven, 1 damaged, 1 with the end "
        "missing, 1 undecided. 1 further file lies inside them. 5.0 MiB of the source (7.8%) was never read."
    ) in page().text


def test_without_a_mapfile_the_page_says_that_unread_is_unknown():
    text = page(source=dataclasses.replace(example().source, unread=None)).text
    assert "Unread sectors unknown: no mapfile was found" in text
    assert "Every byte of the source was read" not in text


def test_a_source_that_was_read_whole_says_so():
    text = page(source=dataclasses.replace(example().source, unread=())).text
    assert "Every byte of the source was read." in text and "unknown" not in text


def test_the_head_shows_the_case_and_what_is_not_stated():
    text = page(case=CaseMetadata(case="2026-0417", notes="one\ntwo")).text
    assert "Case 2026-0417" in text and "Examiner not stated" in text and "one two" in text
    assert "model WDC WD10EZEX , serial WD-WCC3F0<7 , 67,108,864 bytes (64.0 MiB)" in text


def test_damaged_files_list_the_tensors_that_are_hit_and_no_others():
    text = page().text
    assert "2 of 4 tensors are hit." in text and "1 of 1 tensor is hit." in text
    assert "conv2d_1/chunked" in text and "dense/kernel" not in text and "layer0.weight" not in text
    assert "9.0 MiB, of which 3.0 MiB are there" in text


def test_children_stand_under_their_containers():
    text = render(example())
    assert 'style="--depth: 1"' in text and 'title="inside files/0000000100000_archive.pt"' in text


def test_every_grade_layout_and_evidence_is_explained():
    text = page().text
    for grade in Grade:
        assert grade is Grade.REJECTED or wording.GRADES[grade].does_not in text
    assert all(wording.LAYOUTS[basis] in text for basis in LayoutBasis)
    assert all(wording.EVIDENCE[kind] in text for kind in DataEvidence)
    assert "relate only to the item examined" in text and "End of report" in text


def test_hashes_stand_in_full_once():
    text = render(example())
    digest = example().files[0].sha256
    assert f'title="{digest}"' in text and f">{digest}<" in text and "d41d8cd98f00b204e9800998ecf8427e" in text


def test_long_lists_are_bounded_and_say_so():
    damaged = carved(
        "files/big.h5",
        Grade.DAMAGED,
        tuple(Extent(offset_bytes=n * 4096, size_bytes=512) for n in range(100)),
        findings=tuple(Finding(code="unread", offset_bytes=n) for n in range(100)),
        tensors=tuple(tensor(f"t{n}", (n, 1), grade="DAMAGED") for n in range(60)),
    )
    unread = tuple((n * 1024, 512, "-") for n in range(1000))
    text = page(
        files=tuple(dataclasses.replace(damaged, path=f"f{n}") for n in range(as_html.MAX_DAMAGED_FILES + 3)),
        rejected={f"code-{n}": 1 for n in range(60)},
        source=dataclasses.replace(example().source, unread=unread),
    ).text
    assert "… and 10 more tensors" in text and "… and 3 more files" in text and "… and 96 more" in text
    assert "… and 60 more; all" in text and "… and 940 more; all of them" in text and "… and 20 more reasons" in text
    assert text.count("t49 ") >= 1 and "t50 " not in text


def test_ten_thousand_files_are_folded_into_tables():
    files = tuple(
        carved(f"files/{n:013x}.safetensors", Grade.CONSISTENT, runs((n * 4096, 4096))) for n in range(10_000)
    )
    text = render(example(files=files))
    assert text.count("<details") == 51 and text.count("<details open>") == 1
    assert len(text) < 20 * MIB


def test_a_report_of_nothing_can_be_read():
    text = page(files=(), rejected={}).text
    assert "No file came back." in text and "No file was found." in text and "Damage, file by file" not in text
    assert "was it the right drive, and the whole of it?" in text


def test_a_hash_of_the_findings_names_the_report():
    assert report_id(example()) == report_id(example(run={"started": "another day"}))
    assert report_id(example()) != report_id(example(files=()))
    assert re.fullmatch(r"[0-9A-F]{4}(-[0-9A-F]{4}){3}", report_id(example()))
    assert report_id(example()) in render(example())


def test_long_lists_in_the_identity_are_not_spelled_out():
    assert "17 entries, listed in report.json" in page().text


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (MIB - 1, "1023.9 KiB"),
        (MIB, "1.0 MiB"),
        (20 * 10**12, "18.1 TiB"),
        (1 << 62, "4.0 EiB"),
    ],
)
def test_sizes_are_never_rounded_up(size_bytes, shown):
    assert human_size(size_bytes).replace(",", "") == shown


def steps(**changes):
    recovery = example(**changes)
    return " ".join(wording.next_steps(recovery, summarise(recovery)))


def test_next_steps_follow_from_what_was_found():
    bad_only = dataclasses.replace(example().source, unread=((0, 512, "-"),))
    unknown = dataclasses.replace(example().source, unread=None)
    assert "rescue is not finished" in steps() and "retry passes" not in steps()
    assert "retry passes" in steps(source=bad_only) and "not finished" not in steps(source=bad_only)
    assert "mapfile beside it" in steps(source=unknown)
    assert "weights_only=True" in steps() and "undecided" in steps() and "SHA-256" in steps()
    assert steps(files=()).count(".") < steps().count(".")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"command": "carver rescue /dev/sdb case"}, "Run the same command again (`carver rescue /dev/sdb case`)"),
        (
            {"command": "carver carve x", "acquisition": {"sessions": [{"command": ["carver", "image", "/dev/s b"]}]}},
            "`carver image '/dev/s b'`, run again, goes on where it stopped; then carve again.",
        ),
        ({"command": "carver carve x", "acquisition": {"sessions": []}}, "The command that made the image and its"),
        ({"command": "carver carve x", "acquisition": None}, "The command that made the image and its"),
        ({}, "The command that made the image and its"),
    ],
)
def test_how_a_rescue_goes_on_is_told_by_the_command_that_was_run(run, said):
    assert said in steps(run=run)


def test_a_share_too_small_to_print_is_not_printed_as_zero():
    recovery = example(source=dataclasses.replace(example().source, size_bytes=1 << 44, unread=((0, 512, "-"),)))
    assert "512 B of the source (less than 0.1%) was never read." in wording.headline(recovery, summarise(recovery))


def test_what_the_identity_does_not_know_is_said_in_words():
    source = dataclasses.replace(example().source, identity={"model": None, "serial": None})
    text = page(source=source).text
    assert "model not known" in text and "null" not in text and "/dev/sdb , 67,108,864 bytes" in text


def test_models_small_files_and_what_is_named_and_missing_are_told():
    text = page().text
    assert "1 model holds weights: 1 ResNet-50." in text
    assert "ResNet-50, 25.5 M parameters, float32, step 500" in text
    assert "by its tensors' names; step from zip root" in text
    assert "put together as an index file names them" in text
    assert "files/config.json (lies next to it: a guess)" in text
    assert "7.0 MiB, SHA-256 abab" in text and "files/a.pointer and 1 more" in text
    assert "Named, but not found" in text


def test_what_is_missing_is_a_step_to_take():
    text = page().text
    assert "Some models lack files" in text and "named by their SHA-256" in text
    whole = dataclasses.replace(example().models[0], missing_shards=())
    text = page(models=(whole,), missing=example().missing[1:]).text
    assert "Some models lack files" not in text and "named by their SHA-256" not in text


def test_without_models_and_small_files_nothing_is_said_of_them():
    text = page(models=(), side_files=(), missing=()).text
    assert "hold weights" not in text and "Small files" not in text and "Named, but" not in text


def test_long_lists_of_models_are_bounded():
    recovery = example()
    many = {
        "models": recovery.models * 203,
        "side_files": recovery.side_files * 204,
        "missing": recovery.missing[:1] * 205,
    }
    text = page(**many).text
    assert all(f"… and {left} more; all of them are in report.json" in text for left in (3, 4, 5))
    listed = dataclasses.replace(recovery.models[0], files=tuple(f"files/{n}" for n in range(15)))
    assert "… and 3 more" in page(models=(listed,)).text


def test_what_cannot_be_reached_in_a_damaged_file_is_told_beside_the_tensors_that_are_hit():
    facts = {"lost_objects": 65, "groups_with_lost_names": 1}
    hurt = carved("a.h5", Grade.DAMAGED, runs((0, 4096)), tensors=(tensor("w", (0, 4)),), facts=facts)
    text = page(files=(hurt,)).text
    assert "None of the 1 tensor that can be reached is hit. At least 65 objects (groups or datasets) cannot be" in text
    assert "In 1 group names are broken: what they led to cannot be reached, and its number is not known." in text
    assert text.count("At least 65 objects") == 2, "in the list of files, too"
    assert "neither whole nor hit" not in page().text


@pytest.mark.parametrize(
    ("hits", "tensors", "said"),
    [
        (0, 0, "No list of tensors could be read."),
        (0, 7, "None of the 7 tensors that can be reached is hit."),
        (1, 141, "1 of 141 tensors is hit."),
        (2, 1400, "2 of 1,400 tensors are hit."),
    ],
)
def test_how_many_tensors_are_hit_is_said_in_a_sentence(hits, tensors, said):
    assert wording.hit(hits, tensors) == said


def with_findings(*codes, grade=Grade.DAMAGED):
    return carved("+".join(codes), grade, runs((0, 4096)), findings=tuple(Finding(code=code) for code in codes))


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (("foreign-file-inside",), "Not all bytes in 1 file are the file's own"),
        (("directory-displaced", "foreign-file-inside"), "Not all bytes in 1 file are the file's own"),
        (("random-weights", "tensor-uniform-block"), "In 1 file there are bytes as random as encrypted ones"),
        (("unread",), "Parts of 1 file were never read from the drive. missing.map"),
        (("unreadable-image",), "Parts of 1 file could not be read from the image itself"),
        (("external-data",), "Data of 1 file is kept in other files"),
        (("unsafe-global",), "Unpickling 1 file would import"),
    ],
)
def test_what_the_findings_call_for_is_a_step_once_a_file(codes, said):
    files = (with_findings(*codes), with_findings("hash-known", grade=Grade.INTACT))
    assert said in steps(files=files, side_files=())
    assert said not in steps(files=files[1:], side_files=())


def test_every_finding_and_rejection_on_the_page_is_explained():
    text = page(files=(with_findings("directory-displaced", "<b>"),), rejected={"safetensors:header-end": 3}).text
    assert "directory-displaced bytes are missing in the middle of the file" in text
    assert "3 safetensors:header-end : the header does not end where its length says" in text


def test_copies_among_the_files_are_counted_in_front():
    one, other = (carved(path, Grade.INTACT, runs((at, 512)), sha256="ab" * 32) for path, at in (("a", 0), ("b", 512)))
    assert (
        "2 files came back: 2 proven intact. 1 of them is a copy, byte for byte, of another."
        in page(files=(one, other)).text
    )
    assert "byte for byte, of" not in page().text


def test_a_tensor_whose_bytes_are_gone_is_said_not_to_be_in_the_file():
    hurt = carved("a.pt", Grade.TRUNCATED, runs((0, 4096)), tensors=(tensor("w", grade="DAMAGED"),))
    assert "not in the file 0 B" in page(files=(hurt,)).text


def test_an_image_without_a_hash_on_record_is_told_as_such():
    hashed = {**example().run, "acquisition": {"result": {"digests": {"sha256": "1" * 64}}}}
    assert "No hash of the whole image is on record here." in page().text
    assert "No hash of the whole image" not in page(run=hashed).text


def test_files_that_share_bytes_are_told_as_such_in_front_and_one_by_one():
    files = (
        carved("a", Grade.TRUNCATED, runs((0, 4096), (8192, 512))),
        carved("b", Grade.DAMAGED, runs((4096, 512))),
        carved("c", Grade.DAMAGED, runs((8192, 4096))),
        carved("d", Grade.INTACT, runs((1 << 20, 512))),
    )
    recovery = example(files=files)
    assert summarise(recovery).sharing == {0: 2, 2: 0}
    text = Page(render(recovery)).text
    assert "2 of them share bytes with another one of them" in text
    assert "Some of its bytes are also those of No. 3:" in text and "also those of No. 1:" in text
    assert "also those of No. 2" not in text and "share bytes" not in page(files=files[1:]).text


def test_what_lies_inside_a_container_shares_its_bytes_as_it_should():
    assert summarise(example()).sharing == {} and summarise(example(files=())).sharing == {}


def test_a_file_within_a_longer_one_is_found_also_behind_one_that_ends_before():
    files = tuple(
        carved(name, Grade.DAMAGED, runs(run)) for name, run in (("a", (0, 9000)), ("b", (10, 20)), ("c", (5000, 10)))
    )
    assert summarise(example(files=files)).sharing == {0: 1, 1: 0, 2: 0}
