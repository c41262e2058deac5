"""The stages of a case as one: interrupted anywhere and gone on with, the outcome is the same."""

import importlib
import json
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

import signatures
from carver.candidates import Candidate
from carver.case import Case
from carver.claims import Claim, Owned
from carver.cli import arguments
from carver.cli.carve import finish
from carver.judge import judge
from carver.recover import plan_recovery, recover
from carver.scan import scan
from carver.stagelog import StageLog
from carver.stages import Choices, Hooks, claiming, extracting, judging, scanning
from carver.stages.extracting import final_verdict
from fixtures.formats.sample import Sample
from fixtures.images import build_plain
from imaging.errors import InputError, Interrupted, ReadFault
from imaging.extent import Extent, span
from imaging.image import MappedImage, open_image
from imaging.mapfile import BlockStatus, Mapfile
from imaging.source import RawImage
from signatures.format import Format
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, Verdict
from tests.carver.scanning import FaultyImage

FORMATS = signatures.formats()
CHOICES = Choices(formats=("hdf5", "keras", "npz", "pytorch_zip", "safetensors"), with_md5=True)
BARE_SIGNATURE = b"\x89HDF\r\n\x1a\n" + b"\xee" * 504  # dropped by a look, no candidate
NO_HEADER = (64).to_bytes(8, "little") + b'{"' + b"x" * 502


class Killed(BaseException):
    """Stands for kill -9: nothing of ours handles it."""


def sample(name: str, which: str) -> bytes:
    samples: Sequence[Sample] = importlib.import_module(f"fixtures.formats.{name}").samples(11)
    return next(one.content for one in samples if one.name == which)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "disk.img"
    chosen = {"safetensors": "scalar", "keras": "keras", "npz": "stored", "pytorch_zip": "views"}
    placed = [(name, name, sample(name, which)) for name, which in chosen.items()]
    twice = ("again", "safetensors", sample("safetensors", "scalar"))
    build_plain(path, [*placed, ("decoys", "none", BARE_SIGNATURE + NO_HEADER), twice], seed=4, decoys=False)
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps, and judging without children: what is tested here is where a run can end."""

    def judge_here(
        image: RawImage, candidates: Iterator[Candidate], names: object, *, stop: Callable[[], bool], **options: object
    ) -> Iterator[list[tuple[Candidate, Verdict]]]:
        for candidate in candidates:
            yield [(candidate, judge(image, candidate, FORMATS))]
            if stop():
                raise Interrupted("stopped while judging")

    monkeypatch.setattr(judging, "judge_all", judge_here)
    monkeypatch.setattr(judging, "LOG_EVERY_VERDICTS", 3)
    monkeypatch.setattr(scanning, "scan", partial(scan, chunk_bytes=8192))


def carve(
    folder: Path, disk: Path, *, stop: Callable[[], bool] = lambda: False, choices: Choices = CHOICES
) -> dict[str, object]:
    image = open_image(disk)
    with (
        image.source,
        Case.create(folder, locator="disk.img", identity={"size_bytes": image.source.size_bytes}) as case,
    ):
        recover(case, image, FORMATS, choices, Hooks(stop=stop), command="carver carve")
    return outcome(folder)


def outcome(folder: Path) -> dict[str, object]:
    """The report but for its run, and every file there is by its content."""
    report = json.loads((folder / "report.json").read_text())
    del report["run"]
    rooms = [room for room in folder.iterdir() if room.is_dir()]
    there = {p.relative_to(folder).as_posix(): p.read_bytes() for room in rooms for p in room.rglob("*") if p.is_file()}
    return {"report": report, "there": there}


def test_a_run_with_real_workers_tells_the_truth(disk: Path, tmp_path: Path) -> None:
    told = carve(tmp_path / "case", disk, choices=replace(CHOICES, threads=2))["report"]
    assert isinstance(told, dict)
    files = told["files"]
    assert [f["format"] for f in files if f["parent"] is None] == [
        *("safetensors", "keras", "npz", "pytorch_zip", "safetensors")
    ]
    parents = {f["path"] for f in files}
    assert {f["format"] for f in files if f["parent"] in parents} == {"hdf5"}  # inside the .keras
    names = [f["path"] for f in files]
    assert len(set(names)) == len(names)


def test_what_an_image_lost_after_it_was_scanned_counts_as_never_read(
    disk: Path, tmp_path: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = tmp_path / "shorter.img"
    shutil.copy(disk, shorter)
    size_bytes = shorter.stat().st_size

    def cut(stage: str, done: int, total: int) -> None:
        if stage == "judging":
            os.truncate(shorter, 4096)

    image = open_image(shorter)
    with (
        image.source,
        Case.create(tmp_path / "case", locator="disk.img", identity={"size_bytes": size_bytes}) as case,
    ):
        recovery = recover(case, image, FORMATS, CHOICES, Hooks(on_progress=cut), command="carver carve")
        assert recovery.source.unread == ((4096, size_bytes - 4096, "-"),)
        with pytest.raises(InputError, match="was cut short while it was read: 4"):
            finish(recovery, image, tmp_path / "case", Namespace(json=False, strict=True))
    assert "were never read" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["carve --dry-run", "scan"])
def test_a_list_of_an_image_cut_short_meanwhile_ends_as_a_fault(
    disk: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    path = tmp_path / "disk.img"
    shutil.copy(disk, path)
    options = arguments.parse([*command.split(), str(path)])
    room = importlib.import_module(f"carver.cli.{options.command}")

    def cut(options: Namespace, folder: Path | None) -> MappedImage:
        image = open_image(options.image)
        os.truncate(path, 4096)
        return image

    monkeypatch.setattr(room, "open_checked", cut)
    with pytest.raises(InputError, match="was cut short while it was read: 4"):
        room.run(options, lambda: False)


@pytest.mark.parametrize("killed", [False, True], ids=["to its end", "killed"])
@pytest.mark.parametrize("stage", ["scanning", "judging", "writing"])
def test_what_a_run_saw_of_an_image_cut_short_is_not_trusted_by_the_next(
    disk: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, stage: str, killed: bool
) -> None:
    wanted = carve(tmp_path / "whole", disk)
    folder, path, append = tmp_path / "case", tmp_path / "disk.img", StageLog.append
    shutil.copy(disk, path)
    size_bytes = path.stat().st_size

    def cut(here: str, done: int, total: int) -> None:
        if here == stage:
            os.truncate(path, 4096)

    def dies(log: StageLog, *entries: dict[str, object]) -> int:
        append(log, *entries)
        if path.stat().st_size < size_bytes:
            raise Killed
        return 0

    if killed:
        monkeypatch.setattr(StageLog, "append", dies)
    image = open_image(path)
    with (
        image.source,
        Case.create(folder, locator="disk.img", identity={"size_bytes": size_bytes}) as case,
        pytest.raises(Killed) if killed else nullcontext(),
    ):
        recover(case, image, FORMATS, CHOICES, Hooks(on_progress=cut), command="carver carve")
    monkeypatch.setattr(StageLog, "append", append)
    if not killed:
        assert outcome(folder)["report"] != wanted["report"]
    shutil.copy(disk, path)
    for _ in range(2):  # the third run goes on from the second
        assert carve(folder, path)["report"] == wanted["report"]
    assert (folder / "scan.1.jsonl").exists() and not (folder / "scan.2.jsonl").exists()


def test_candidates_that_are_no_files_are_counted_by_reason(disk: Path, tmp_path: Path, in_process: None) -> None:
    told = carve(tmp_path / "case", disk)["report"]
    assert isinstance(told, dict)
    assert told["rejected"] == {"safetensors:header-end": 1}


def test_a_run_stopped_anywhere_and_gone_on_with_gives_the_same(disk: Path, tmp_path: Path, in_process: None) -> None:
    asked = count()
    wanted = carve(tmp_path / "whole", disk, stop=lambda: next(asked) < 0)
    total = next(asked)
    assert total > 12
    for number in range(total):
        folder, calls = tmp_path / f"stopped-{number}", count()
        with pytest.raises(Interrupted):
            carve(folder, disk, stop=lambda calls=calls, number=number: next(calls) >= number)
        assert not (folder / "report.json").exists()
        assert carve(folder, disk) == wanted


@pytest.mark.parametrize("before", [True, False])
def test_a_run_killed_at_any_line_of_a_log_and_gone_on_with_gives_the_same(
    disk: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Before the line: what it tells of was done, a file renamed even, and is not told."""
    wanted = carve(tmp_path / "whole", disk)
    append = StageLog.append
    for number in count():
        calls, folder = count(), tmp_path / f"killed-{number}"

        def dies(log: StageLog, *entries: dict[str, object], calls: count = calls, number: int = number) -> int:
            for entry in entries:  # one by one: a batch of lines can be torn between any two
                due = next(calls) == number
                if due and before:
                    raise Killed
                offset_bytes = append(log, entry)
                if due:
                    raise Killed
            return offset_bytes

        with monkeypatch.context() as patch:
            patch.setattr(StageLog, "append", dies)
            try:
                carve(folder, disk)
            except Killed:
                pass
            else:
                break
        assert carve(folder, disk) == wanted
        assert list(folder.rglob("*.partial")) == []
    assert number > 15


def test_a_finished_case_is_not_done_again(disk: Path, tmp_path: Path, in_process: None) -> None:
    wanted = carve(tmp_path / "case", disk)
    logs = {path: path.stat().st_mtime_ns for path in (tmp_path / "case").glob("*.jsonl")}
    assert carve(tmp_path / "case", disk) == wanted
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "case").glob("*.jsonl")} == logs


def test_with_more_sectors_read_all_is_done_anew_and_nothing_of_before_is_lost(
    disk: Path, tmp_path: Path, in_process: None
) -> None:
    image, case = tmp_path / "disk.img", tmp_path / "case"
    image.write_bytes(disk.read_bytes())
    size = image.stat().st_size
    map_path = tmp_path / "disk.img.map"
    map_path.write_text(f"0x0 ? 1\n0x0 0x200 -\n0x200 {size - 512:#x} +\n")
    first = carve(case, image)
    kept = {path.name: path.read_bytes() for path in case.iterdir() if path.suffix in (".jsonl", ".bin")}
    map_path.write_text(f"0x0 + 1\n0x0 {size:#x} +\n")
    second = carve(case, image)
    for name, content in kept.items():
        stem, suffix = name.split(".")
        assert (case / f"{stem}.1.{suffix}").read_bytes() == content
    there_first, there_second = first["there"], second["there"]
    assert isinstance(there_first, dict)
    assert isinstance(there_second, dict)
    assert set(there_first.values()) <= set(there_second.values())
    listed = {f["path"] for f in files_of(second)}
    assert {path for path in there_second if path not in listed} == {
        f"superseded/{Path(path).name}" for path in there_first if path not in listed
    }
    fresh = carve(tmp_path / "fresh", image)
    assert sorted(f["sha256"] for f in files_of(second)) == sorted(f["sha256"] for f in files_of(fresh))
    assert len(files_of(second)) > len(files_of(first))


def test_a_damaged_file_that_came_back_whole_leaves_no_damaged_twin_in_the_way(
    disk: Path, tmp_path: Path, in_process: None
) -> None:
    layouts = [f["layout"][0] for f in files_of(carve(tmp_path / "whole", disk))]  # type: ignore[index]
    start, size = max(layouts, key=lambda extent: extent[1])
    hole, end = (start + size // 2) // 512 * 512, disk.stat().st_size
    assert start < hole
    image, case, map_path = tmp_path / "disk.img", tmp_path / "case", tmp_path / "disk.img.map"
    image.write_bytes(disk.read_bytes()[:hole] + bytes(512) + disk.read_bytes()[hole + 512 :])
    map_path.write_text(f"0x0 ? 1\n0x0 {hole:#x} +\n{hole:#x} 0x200 -\n{hole + 512:#x} {end - hole - 512:#x} +\n")
    damaged = next(Path(str(f["path"])) for f in files_of(carve(case, image)) if f["grade"] == "DAMAGED")
    assert damaged.parts[0] == "damaged"
    image.write_bytes(disk.read_bytes())
    map_path.write_text(f"0x0 + 1\n0x0 {end:#x} +\n")
    assert all(f["grade"] in ("INTACT", "CONSISTENT") for f in files_of(carve(case, image)))
    assert not (case / damaged).exists()
    assert (case / "superseded" / damaged.name).is_file()


def test_a_file_that_is_still_damaged_with_more_of_it_read_keeps_its_name(
    disk: Path, tmp_path: Path, in_process: None
) -> None:
    layouts = [f["layout"][0] for f in files_of(carve(tmp_path / "whole", disk))]  # type: ignore[index]
    start, size = max(layouts, key=lambda extent: extent[1])
    hole, end = (start + size // 2) // 512 * 512, disk.stat().st_size
    image, map_path = tmp_path / "disk.img", tmp_path / "disk.img.map"
    damaged: list[tuple[Path, bytes]] = []
    for hole_bytes in (1024, 512):
        image.write_bytes(disk.read_bytes()[:hole] + bytes(hole_bytes) + disk.read_bytes()[hole + hole_bytes :])
        rest = f"{hole + hole_bytes:#x} {end - hole - hole_bytes:#x} +\n"
        map_path.write_text(f"0x0 ? 1\n0x0 {hole:#x} +\n{hole:#x} {hole_bytes:#x} -\n{rest}")
        files = files_of(carve(tmp_path / "case", image))
        path = next(tmp_path / "case" / str(f["path"]) for f in files if f["grade"] == "DAMAGED")
        damaged.append((path, path.read_bytes()))
    assert damaged[0][0] == damaged[1][0] and damaged[0][1] != damaged[1][1]
    assert (tmp_path / "case" / "superseded" / path.name).read_bytes() == damaged[0][1]


def files_of(told: dict[str, object]) -> list[dict[str, object]]:
    report = told["report"]
    assert isinstance(report, dict)
    return list(report["files"])


def test_another_status_of_the_same_unread_sectors_is_no_reason_to_begin_anew(
    disk: Path, tmp_path: Path, in_process: None
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(disk.read_bytes())
    size = image.stat().st_size
    for blocks in ("0x0 0x400 *\n", "0x0 0x200 -\n0x200 0x200 /\n"):
        (tmp_path / "disk.img.map").write_text(f"0x0 ? 1\n{blocks}0x400 {size - 1024:#x} +\n")
        carve(tmp_path / "case", image)
    assert not list((tmp_path / "case").glob("*.1.*"))


def test_small_files_are_left_out_and_children_of_what_stays_are_kept_right(
    disk: Path, tmp_path: Path, in_process: None
) -> None:
    files = files_of(carve(tmp_path / "all", disk))
    child = next(f for f in files if f["parent"] is not None)
    bar = int(str(child["size_bytes"])) + 1
    kept = files_of(carve(tmp_path / "big", disk, choices=replace(CHOICES, min_size_bytes=bar)))
    assert [f["sha256"] for f in kept] == [f["sha256"] for f in files if int(str(f["size_bytes"])) >= bar]
    assert all(f["parent"] is None for f in kept)


def test_a_child_whose_parent_is_left_out_stands_alone(tmp_path: Path) -> None:
    parent, child = a_claim(0, 100), a_claim(10, 90)
    owned = Owned(claim=child, parent=0)
    assert claiming._reparented(owned, [-1, 0]).parent is None
    assert claiming._reparented(owned, [5, 6]).parent == 5
    assert parent.end_bytes > child.end_bytes


def test_of_zips_in_zips_the_outer_one_owns_the_inner_one_and_that_its_weights(
    tmp_path: Path, in_process: None
) -> None:
    build_plain(tmp_path / "disk.img", [("outer", "zip_archive", sample("zip_archive", "zip-in-a-zip"))], seed=5)
    choices = Choices(formats=("pytorch_zip", "zip_archive"))
    outer, inner, weights = files_of(carve(tmp_path / "case", tmp_path / "disk.img", choices=choices))
    assert [f["format"] for f in (outer, inner, weights)] == ["zip_archive", "zip_archive", "pytorch_zip"]
    assert [f["parent"] for f in (outer, inner, weights)] == [None, outer["path"], inner["path"]]


def test_an_image_that_cannot_be_read_somewhere_does_not_end_the_run(
    disk: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = files_of(carve(tmp_path / "whole", disk))
    victim = wanted[0]
    ((start, size),) = victim["layout"]  # type: ignore[misc]
    read_at = RawImage.read_at

    def fails(image: RawImage, offset: int, wanted_bytes: int) -> bytes:
        if offset < start + size and offset + wanted_bytes > start + size - 1:
            raise ReadFault("bad sector", offset_bytes=offset, size_bytes=wanted_bytes, errno=5)
        return read_at(image, offset, wanted_bytes)

    monkeypatch.setattr(extracting, "write_partial", _with(extracting.write_partial, monkeypatch, fails))
    told = files_of(carve(tmp_path / "case", disk))
    hit = told[0]
    assert hit["grade"] == "DAMAGED"
    assert hit["data_evidence"] == "none"
    assert [f["code"] for f in hit["findings"]][-1] == "unreadable-image"  # type: ignore[attr-defined]
    assert hit["size_bytes"] == size
    assert "DAMAGED" in [t["grade"] for t in hit["tensors"]]  # type: ignore[attr-defined]
    assert str(hit["path"]).startswith("damaged/")
    assert (tmp_path / "case" / str(hit["path"])).stat().st_size == size
    rest = [(f["sha256"], f["grade"]) for f in told[1:]]
    assert rest == [(f["sha256"], f["grade"]) for f in wanted[1:]]


@pytest.mark.parametrize("mapped", [False, True])
def test_what_could_not_be_read_of_the_image_while_scanning_stands_in_the_report(
    disk: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    size = disk.stat().st_size
    copy = tmp_path / "disk.img"
    copy.write_bytes(disk.read_bytes())
    if mapped:
        told = Mapfile.covering(size)
        told.mark(span(0, size), BlockStatus.FINISHED)
        told.mark(span(8192, 12288), BlockStatus.NON_TRIMMED)
        (tmp_path / "disk.img.map").write_text(told.to_text())
    FaultyImage.use(monkeypatch)
    monkeypatch.setattr(FaultyImage, "bad", staticmethod(lambda at, count: at < 12388 and at + count > 12288))
    monkeypatch.setattr("imaging.image.RawImage", FaultyImage)
    carve(tmp_path / "case", copy)
    unread = json.loads((tmp_path / "case" / "report.json").read_text())["source"]["unread"]
    assert unread == ([[8192, 4096, "*"]] if mapped else []) + [[12288, size - 12288, "-"]]


def _with(extract: Callable[..., object], monkeypatch: pytest.MonkeyPatch, read_at: object) -> Callable[..., object]:
    def extract_from_a_bad_disk(*arguments: object, **options: object) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(RawImage, "read_at", read_at)
            return extract(*arguments, **options)

    return extract_from_a_bad_disk


def a_claim(start: int, end: int, grade: Grade = Grade.CONSISTENT) -> Claim:
    return Claim(
        start_bytes=start, size_bytes=end - start, format="toy", grade=grade, container=False, log_position=(0, 0)
    )


def a_tensor(name: str, offset: int, size: int) -> Tensor:
    return Tensor(name=name, dtype="uint8", shape=(size,), layout=(Extent(offset_bytes=offset, size_bytes=size),))


@pytest.mark.parametrize(
    ("at", "code", "lowered"), [(60, "foreign-file-inside", ["b", "c"]), (0, "overlaps-proven-file", ["a", "b", "c"])]
)
def test_from_a_foreign_file_on_the_tensors_are_damaged(at: int, code: str, lowered: list[str]) -> None:
    tensors = (a_tensor("a", 0, 60), a_tensor("b", 60, 10), a_tensor("c", 70, 30))
    verdict = Verdict(grade=Grade.CONSISTENT, size_bytes=100, tensors=tensors, data_evidence=DataEvidence.CHECKSUM)
    owned = Owned(claim=a_claim(1000, 1100), contested_at_bytes=1000 + at, contested_by="onnx")
    final = final_verdict(verdict, owned)
    assert (final.grade, final.data_evidence) == (Grade.DAMAGED, DataEvidence.NONE)
    assert [(f.code, f.offset_bytes) for f in final.findings] == [(code, at)]
    assert "onnx" in final.findings[0].detail
    assert [t.name for t in final.tensors if t.grade == Grade.DAMAGED] == lowered


@pytest.mark.parametrize(("parent", "left"), [(None, ["bytes-after-end", "unclosed"]), (0, ["unclosed"])])
def test_of_a_file_inside_another_nothing_is_told_of_the_bytes_behind_it(parent: int | None, left: list[str]) -> None:
    told = tuple(Finding(code=code, offset_bytes=100, detail="") for code in ("bytes-after-end", "unclosed"))
    verdict = Verdict(grade=Grade.CONSISTENT, size_bytes=100, findings=told)
    final = final_verdict(verdict, Owned(claim=a_claim(0, 100), parent=parent))
    assert ([finding.code for finding in final.findings], final.grade) == (left, Grade.CONSISTENT)


def test_a_verdict_nobody_contests_stays() -> None:
    verdict = Verdict(grade=Grade.CONSISTENT, size_bytes=100)
    assert final_verdict(verdict, Owned(claim=a_claim(0, 100))) is verdict


def layout_of(*owned: Owned, index: int = 0, image_bytes: int = 1 << 40) -> tuple[int, int]:
    (extent,) = claiming.Planned(owned=owned[index], end_bytes=claiming._end_of(index, owned, image_bytes)).layout
    return extent.offset_bytes, extent.end_bytes


def test_what_could_not_be_decided_is_kept_up_to_the_next_file_bounded() -> None:
    lone, inside = Owned(claim=a_claim(512, 512, Grade.UNDECIDED)), a_claim(600, 600, Grade.UNDECIDED)
    assert layout_of(lone) == (512, 512 + claiming.UNDECIDED_KEEP_BYTES)
    assert layout_of(lone, image_bytes=1000) == (512, 1000)
    assert layout_of(lone, Owned(claim=a_claim(4096, 9000))) == (512, 4096)
    assert layout_of(Owned(claim=a_claim(0, 800)), Owned(claim=inside, parent=0), index=1) == (600, 800)


def test_what_lacks_its_end_goes_no_farther_than_to_a_foreign_file() -> None:
    truncated = a_claim(0, 1 << 39, Grade.TRUNCATED)
    assert layout_of(Owned(claim=truncated)) == (0, 1 << 39)
    assert layout_of(Owned(claim=truncated, contested_at_bytes=8192, contested_by="onnx")) == (0, 8192)


def test_a_plan_writes_nothing_and_is_gone_on_from(disk: Path, tmp_path: Path, in_process: None) -> None:
    image: MappedImage = open_image(disk)
    formats: dict[str, Format] = FORMATS
    with Case.create(tmp_path / "case", locator="x", identity={"size_bytes": image.source.size_bytes}) as case:
        plan = plan_recovery(case, image, formats, CHOICES, Hooks())
        plan.verdicts.close()
    assert not any(path.is_dir() for path in (tmp_path / "case").iterdir())
    assert len(files_of(carve(tmp_path / "case", disk))) == len(plan.files)
