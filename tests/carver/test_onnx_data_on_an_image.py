"""Models of the onnx library with external data, on images: carved, set beside each other, and loaded by onnx again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import signatures
from carver.case import Case
from carver.identify.external import with_data
from carver.identify.missing import missing_files
from carver.identify.naming import safe_path
from carver.recover import plan_recovery
from carver.stages import Choices, Hooks, seeking
from fixtures.formats.onnx_external_data import build, model, network
from imaging.extent import ExtentSet, span
from imaging.image import open_image
from signatures import onnx
from signatures._onnx_data_plan import data_files
from signatures.onnx_external_data import FORMAT
from signatures.tensors import Tensor
from signatures.verdict import Grade
from tests import report_schema
from tests.carver.made_models import a_file
from tests.carver.recoveries import example_model
from tests.command import good
from tests.signatures.zip_window import judge, window_on

BLOCK = 4096
WIDTH = 128
NOISE = np.random.default_rng(5).bytes(1 << 18)
LOAD = """
import sys, onnx, onnx.numpy_helper
model = onnx.load(sys.argv[1])
onnx.checker.check_model(model)
for tensor in [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]:
    print(tensor.name, tensor.data_location, onnx.numpy_helper.to_array(tensor).astype("f8").sum())
"""


def network_of(onnx, seed: int, layers: int = 4):
    rng, tensors, nodes, last = np.random.default_rng(seed), [], [], "x"
    kinds = (("w", (WIDTH, WIDTH), 0, 0.02), ("b", (WIDTH,), 0, 0.003), ("g", (WIDTH,), 1, 0.05))
    for layer in range(layers):
        for kind, shape, middle, scale in kinds:
            values = rng.normal(middle, scale, shape).astype(np.float32)
            tensors.append(onnx.numpy_helper.from_array(values, f"l{layer}.{kind}"))
        constant = onnx.numpy_helper.from_array(rng.normal(size=WIDTH).astype(np.float32), f"c{layer}")
        nodes += [
            onnx.helper.make_node("Gemm", [last, f"l{layer}.w", f"l{layer}.b"], [f"h{layer}"]),
            onnx.helper.make_node("Constant", [], [f"k{layer}"], value=constant),
            onnx.helper.make_node("Mul", [f"h{layer}", f"l{layer}.g"], [f"m{layer}"]),
            onnx.helper.make_node("Add", [f"m{layer}", f"k{layer}"], [f"y{layer}"]),
        ]
        last = f"y{layer}"
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["n", WIDTH]) for name in ("x", last)]
    graph = onnx.helper.make_graph(nodes, "main_graph", ends[:1], ends[1:], initializer=tensors)
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, producer_name="pytorch", ir_version=8, opset_imports=opsets)


def saved(folder: Path, **options: object) -> dict[str, bytes]:
    """Return the files that the onnx library writes, the model last."""
    onnx = pytest.importorskip("onnx")
    folder.mkdir()
    onnx.save(network_of(onnx, 1), folder / "net.onnx", save_as_external_data=True, **options)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {**files, "net.onnx": files.pop("net.onnx")}


def _external(content: bytes) -> list:
    return onnx.validate(window_on(content)).facts["external_data"]


def carved(folder: Path, parts: list[bytes]) -> dict:
    held = bytearray(BLOCK)
    for part in parts:
        held += part + bytes(-len(part) % BLOCK)
    (folder / "disk.img").write_bytes(held)
    good("carve", folder / "disk.img", "--out", folder / "case")
    return report_schema.load_checked(folder / "case")


def loaded(path: Path) -> str:
    """Return what the onnx library reads of a model and its data, in a child process."""
    return subprocess.run(
        [sys.executable, "-c", LOAD, str(path)], check=True, capture_output=True, text=True, timeout=120
    ).stdout


@pytest.mark.parametrize(
    "options",
    [
        {"location": "net.onnx.data"},
        {"location": "net.onnx.data", "size_threshold": 0, "convert_attribute": True},
        {"all_tensors_to_one_file": False, "size_threshold": 0},
    ],
    ids=["one file", "attributes too", "a file for each"],
)
def test_model_and_data_load_together_again(tmp_path, options):
    files = saved(tmp_path / "there", **options)
    names = [name for name in files if name != "net.onnx"]
    names.sort(key=lambda name: (name[:3], "wbg".find(name[-1])))  # in the order in which they are written
    report = carved(tmp_path, [NOISE, *(files[name] for name in names), files["net.onnx"], NOISE])
    data = [file for file in report["files"] if file["format"] == "onnx_external_data"]
    assert {file["facts"]["location"] for file in data} == set(names)
    assert {(file["grade"], file["layout_basis"]) for file in data} == {("CONSISTENT", "probable")}
    assert report["missing"] == []
    (there,) = (tmp_path / "case/models").glob("*/*.onnx")
    assert loaded(there) == loaded(tmp_path / "there/net.onnx")


def test_data_that_is_nowhere_is_missing_with_what_was_looked_for(tmp_path):
    _, content = build(3, network(), align_bytes=256)
    hostile = model([("t", 1, (4, 4))], [("../../etc/passwd", "0", "65")])
    report = carved(tmp_path, [NOISE, content, NOISE, hostile])
    assert [file["format"] for file in report["files"]] == ["onnx", "onnx"]
    words = {file["name"]: file["looked_for"] for file in report["missing"]}
    assert "no place stands out" in words["net.onnx.data"]
    assert "contradicts itself" in words["../../etc/passwd"]
    page = (tmp_path / "case/report.html").read_text()
    assert "no place stands out" in page
    assert "2 models lack their weights: they lie in files that were not found." in page


def test_a_hostile_location_leaves_the_case_by_no_path(tmp_path):
    data, content = build(3, network(), align_bytes=256, location="../../../tmp/evil.data")
    report = carved(tmp_path, [content, data])
    (found,) = (file for file in report["files"] if file["format"] == "onnx_external_data")
    assert found["path"] == "files/evil.data"
    gathered = {path.relative_to(tmp_path / "case").as_posix() for path in (tmp_path / "case/models").glob("*/*")}
    assert gathered == {"models/evil/evil.onnx", "models/evil/evil.data"}
    assert not (tmp_path.parent / "tmp").exists()


def test_a_stopped_run_does_not_seek_again(tmp_path):
    data, content = build(3, network(), align_bytes=256)
    first = carved(tmp_path, [content, data])
    log = tmp_path / "case/verdicts.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))  # stopped just before the end
    assert b'"sought":[' in lines[-2]
    good("carve", tmp_path / "disk.img", "--out", tmp_path / "case")
    assert log.read_bytes().count(b'"sought":[') == 1
    assert report_schema.load_checked(tmp_path / "case")["files"] == first["files"]


def test_data_that_several_models_tell_of_says_so():
    data, content = build(3, network(), align_bytes=256)
    models = [(1024, "a.data"), (4096, "b.data")]
    entry = seeking._entry(512, seeking._FoundData(verdict=judge(FORMAT, data + content), models=models))
    assert (entry["start_bytes"], entry["facts"]["model_starts"]) == (512, [1024, 4096])
    assert entry["facts"]["model_locations"] == ["a.data", "b.data"]
    assert "data-of-several" in [code for code, _, _ in entry["findings"]]


def test_of_many_files_that_lie_apart_only_the_largest_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(seeking, "MAX_ALONE", 1)
    content = model([("a", 1, (4, 4)), ("b", 1, (8, 4))], [("a", "0", "64"), ("b", "0", "128")])
    files = data_files(onnx.validate(window_on(content)).facts["external_data"])
    path = tmp_path / "image"
    path.write_bytes(content + bytes(8192))
    search = seeking._Seeking(open_image(path), ExtentSet(), Hooks(), ExtentSet())
    search.seek([span(0, len(content))], files)
    assert [(one["location"], one["outcome"]) for one in search.sought] == [("a", "not-looked-for"), ("b", "nowhere")]


def test_copies_of_a_model_near_each_other_are_looked_around_once(tmp_path):
    content = model([("a", 1, (64, 64))], [("a", "0", "16384")])
    files = data_files(onnx.validate(window_on(content)).facts["external_data"])
    path = tmp_path / "image"
    path.write_bytes((content + bytes(-len(content) % BLOCK)) * 3 + bytes(1 << 16))
    search = seeking._Seeking(open_image(path), ExtentSet(), Hooks(), ExtentSet())
    search.seek([span(start, start + len(content)) for start in (0, BLOCK, 2 * BLOCK)], files)
    assert search._searches == 1
    assert [one["model_start_bytes"] for one in search.sought] == [0, BLOCK, 2 * BLOCK]


def test_one_place_is_not_two_files_of_one_model(tmp_path):
    layers = network()
    data, told = build(3, layers, align_bytes=256)
    places = [(piece.offset_bytes, piece.size_bytes) for piece in data_files(_external(told))[0].pieces]
    both = [(name, str(offset), str(size)) for name in ("a", "b") for offset, size in places]
    content = model([(f"{name}.{one}", kind, shape) for name in "ab" for one, kind, shape in layers], both)
    parts = (NOISE, data, content, NOISE)
    path = tmp_path / "image"
    path.write_bytes(b"".join(part + bytes(-len(part) % BLOCK) for part in parts))
    start = len(NOISE) + len(data) + -len(data) % BLOCK
    here = span(start, start + len(content))
    search = seeking._Seeking(open_image(path), ExtentSet((here,)), Hooks(), ExtentSet())
    search.seek([here], data_files(_external(content)))
    assert search.found == {}
    assert [(one["location"], one["outcome"], one["places"]) for one in search.sought] == [
        *(("a", "shared", [len(NOISE)]), ("b", "shared", [len(NOISE)])),
    ]


def test_two_models_that_one_data_file_fits_both_load_with_it_under_their_own_names(tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "there"
    folder.mkdir()
    for name, graph in (("net", "main_graph"), ("net5", "other_graph")):
        made = network_of(onnx, 1)
        made.graph.name = graph
        onnx.save(made, folder / f"{name}.onnx", save_as_external_data=True, location=f"{name}.onnx.data")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files["net.onnx.data"] == files["net5.onnx.data"]
    report = carved(tmp_path, [NOISE, files["net.onnx"], files["net5.onnx"], files["net.onnx.data"], NOISE])
    (data,) = (file for file in report["files"] if file["format"] == "onnx_external_data")
    assert "data-of-several" in {finding["code"] for finding in data["findings"]}
    assert report["missing"] == []
    for name in ("net", "net5"):
        (there,) = (tmp_path / "case/models").glob(f"*/{name}.onnx")
        assert loaded(there) == loaded(folder / f"{name}.onnx")
    assert not list((tmp_path / "case/models").rglob("INCOMPLETE.txt"))


def test_data_that_copies_of_a_model_miss_is_missing_once_and_not_at_all_if_one_has_it():
    facts = {"external_files": {"a.data": 9}}
    models = [a_file(f"files/{at}.onnx", form="onnx", facts=facts, at_bytes=at, content="one") for at in (4096, 8192)]
    (told,) = missing_files(models, [])
    assert (told.name, told.learnt_from) == ("a.data", ("files/4096.onnx", "files/8192.onnx"))
    found = {"location": "a.data", "model_starts": [8192]}
    assert missing_files([*models, a_file("files/a.data", form="onnx_external_data", facts=found)], []) == ()


def test_the_search_tells_how_far_it_is(tmp_path):
    _, content = build(3, network(), align_bytes=256)
    (tmp_path / "image").write_bytes(content + NOISE)
    told = []
    hooks = Hooks(on_progress=lambda stage, done, total: told.append((stage, done, total)))
    formats = signatures.formats()
    chosen = Choices(formats=("onnx", FORMAT.name), threads=1)
    image = open_image(tmp_path / "image")
    with (
        image.source,
        Case.create(tmp_path / "case", locator="image", identity={"size_bytes": image.source.size_bytes}) as case,
    ):
        plan_recovery(case, image, formats, chosen, hooks)
    assert [one for one in told if one[0] == "seeking"] == [("seeking", 0, 1)]


def test_copies_of_a_model_far_from_each_other_are_looked_around_one_by_one():
    near, far = [span(0, 512), span(4096, 4608)], span(1 << 40, (1 << 40) + 512)
    assert list(seeking._neighbourhoods([far, *near])) == [near, [far]]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/../b", "", ".", "a/.hidden", "a\\b", "con", "a//b\0", "\u202ea"]
)
def test_a_path_that_could_lead_elsewhere_is_not_safe(path):
    assert safe_path(path) == ""


def test_a_path_below_the_folder_is_safe():
    assert safe_path("./weights/net.onnx.data") == "weights/net.onnx.data"


def test_a_model_is_no_better_than_its_data():
    owner = a_file("files/a.onnx", form="onnx", facts={"external_files": {"a.data": 9}}, at_bytes=4096)
    facts = {"location": "a.data", "model_starts": [4096]}
    data = a_file("damaged/a.data", form="onnx_external_data", facts=facts, grade=Grade.DAMAGED)
    (told,) = with_data([example_model(files=(owner.path,), companions=())], [owner, data])
    assert (told.grade, [(one.path, one.why) for one in told.companions]) == (Grade.DAMAGED, [(data.path, "data")])
    assert missing_files([owner, data], []) == ()


@pytest.mark.parametrize(
    ("own_bytes", "found", "lacking"),
    [(0, (), True), (29, (), True), (30, (), False), (0, ("a.data",), True), (0, ("b.data",), False)],
    ids=["nowhere", "small ones held", "most held", "the smaller file found", "the larger file found"],
)
def test_a_model_lacks_its_weights_where_most_of_their_bytes_were_not_found(own_bytes, found, lacking):
    held = [Tensor(name="w", dtype="uint8", shape=(own_bytes,), layout=(span(0, own_bytes),))] if own_bytes else []
    sizes = {"external_files": {"a.data": 9, "b.data": 20}}
    owner = a_file("files/a.onnx", held, form="onnx", facts=sizes, at_bytes=4096)
    data = [
        a_file(f"files/{name}", form="onnx_external_data", facts={"location": name, "model_starts": [4096]})
        for name in found
    ]
    (told,) = with_data([example_model(files=(owner.path,))], [owner, *data])
    assert told.weights_missing == lacking


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("refused", "contradicts itself: odd"),
        ("not-looked-for", "not looked for: too many others came first"),
        ("shared", "0x200, 0x400 would do for it and for another file of the same model"),
        ("found", "found at 0x200, 0x400, but no file of it was written"),
        ("nowhere", "no place stands out"),
        ("in-part", "a part of it may lie at 0x200, 0x400"),
        ("doubtful", "too little speaks for it"),
        ("several", "which is right cannot be told"),
        ("crowded", "too many places"),
        ("unlike-sum", "has not the SHA-1"),
    ],
)
def test_what_was_looked_for_in_vain_is_told_in_words(outcome, words):
    owner = a_file("files/a.onnx", form="onnx", facts={"external_files": {"a.data": 9}}, at_bytes=4096)
    sought = {"model_start_bytes": 4096, "location": "a.data", "outcome": outcome, "why": "odd"}
    (missing,) = missing_files([owner], [], [{**sought, "searched_bytes": 1 << 31, "places": [512, 1024]}])
    assert words in missing.looked_for
    assert ("up to 2,048 MiB" in missing.looked_for) == (outcome not in ("refused", "not-looked-for", "found"))


def test_what_was_never_read_where_data_was_looked_for_is_told():
    owner = a_file("files/a.onnx", form="onnx", facts={"external_files": {"a.data": 9}}, at_bytes=4096)
    sought = {"model_start_bytes": 4096, "location": "a.data", "outcome": "nowhere", "why": "", "places": []}
    (missing,) = missing_files([owner], [], [{**sought, "searched_bytes": 1 << 31, "unread_bytes": 5120}])
    assert "5,120 bytes of that range were never read, and were skipped" in missing.looked_for


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"parent": "files/a.zip"}, "not looked for: its model lies inside files/a.zip"),
        ({"grade": Grade.DAMAGED}, "not looked for: its model is not whole"),
        ({}, "not on record whether it was looked for"),
    ],
    ids=["inside", "damaged", "no record"],
)
def test_what_was_not_looked_for_says_why(more, words):
    owner = a_file("files/a.onnx", form="onnx", facts={"external_files": {"a.data": 9}}, at_bytes=4096, **more)
    (missing,) = missing_files([owner], [])
    assert words in missing.looked_for


def test_a_search_around_any_copy_of_a_model_counts_for_all():
    facts = {"external_files": {"a.data": 9}}
    inside = a_file("files/b.onnx", form="onnx", facts=facts, at_bytes=512, content="one", parent="files/a.zip")
    outside = a_file("files/c.onnx", form="onnx", facts=facts, at_bytes=4096, content="one")
    sought = {"model_start_bytes": 4096, "location": "a.data", "outcome": "nowhere", "why": "", "searched_bytes": 1}
    (missing,) = missing_files([inside, outside], [], [{**sought, "places": []}])
    assert "no place stands out" in missing.looked_for


def test_data_with_a_range_that_was_never_read_is_found_and_its_tensor_damaged(tmp_path):
    data, content = build(3, network(), align_bytes=256)
    parts = [NOISE, content, data, NOISE]
    padded = [part + bytes(-len(part) % BLOCK) for part in parts]
    hole, size = sum(map(len, padded[:2])) + 9 * BLOCK, sum(map(len, padded))
    held = b"".join(padded)
    (tmp_path / "disk.img").write_bytes(held[:hole] + bytes(512) + held[hole + 512 :])
    blocks = ((0, hole, "+"), (hole, 512, "-"), (hole + 512, size - hole - 512, "+"))
    lines = ["# Mapfile.", "0x0 + 1", *(f"{start:#x} {length:#x} {status}" for start, length, status in blocks)]
    (tmp_path / "disk.map").write_text("\n".join(lines) + "\n")
    good("carve", tmp_path / "disk.img", "--out", tmp_path / "case")
    report = report_schema.load_checked(tmp_path / "case")
    (found,) = (file for file in report["files"] if file["format"] == "onnx_external_data")
    assert (found["grade"], found["layout"]) == ("DAMAGED", [[hole - 9 * BLOCK, len(data)]])
    assert {finding["code"] for finding in found["findings"]} == {"found-by-traces", "unread"}
    assert [tensor["name"] for tensor in found["tensors"] if tensor["grade"] == "DAMAGED"] == ["l2.weight"]
