"""Gathering: links that take no room, made anew, and never the last name of anything."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from carver.recovery import CarvedFile, Companion, MissingFile, Model, Recovery
from carver.stages import gathering
from carver.stages.gathering import gather_models
from signatures.verdict import Grade
from tests.carver.made_models import a_file
from tests.carver.recoveries import example, example_model

CONFIG = a_file("files/config@0x600.json", form="model_json", facts={"kind": "config.json"}, side=True)
GUESSED = a_file("files/config.json", form="model_json", facts={"kind": "config.json"}, side=True)
BY_SIZES = Companion(path=CONFIG.path, why="sizes")


def a_recovery(folder: Path, files: list[CarvedFile], models: list[Model]) -> Recovery:
    """Return a record whose files lie in `folder`, each with its path as its content."""
    for file in (*files, CONFIG, GUESSED):
        (folder / file.path).parent.mkdir(exist_ok=True)
        (folder / file.path).write_text(file.path)
    return example(files=tuple(files), side_files=(CONFIG, GUESSED), models=tuple(models))


def linked(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder / "models").as_posix(): path.read_text()
        for path in (folder / "models").rglob("*")
        if path.is_file()
    }


def one(file: CarvedFile, **more: object) -> Model:
    values = {
        "name": "bert",
        "files": (file.path,),
        "grade": Grade.CONSISTENT,
        "companions": (BY_SIZES,),
        "missing_shards": (),
    }
    return example_model(**{**values, **more})


def test_a_model_lies_beside_its_configuration_under_the_names_its_library_looks_for(tmp_path):
    file = a_file("files/safetensors-0x200.safetensors")
    both = (Companion(path=GUESSED.path, why="place"), BY_SIZES)
    gather_models(a_recovery(tmp_path, [file], [one(file, companions=both)]), tmp_path)
    assert linked(tmp_path) == {"bert/model.safetensors": file.path, "bert/config.json": CONFIG.path}
    assert (tmp_path / "models/bert/model.safetensors").samefile(tmp_path / file.path)


@pytest.mark.parametrize(
    ("form", "facts", "name"),
    [
        ("pytorch_zip", {"kind": "config.json"}, "pytorch_model.bin"),
        (
            "safetensors",
            {"kind": "config.json", "_class_name": "UNet2DConditionModel"},
            "diffusion_pytorch_model.safetensors",
        ),
        ("safetensors", {"kind": "adapter_config.json"}, "adapter_model.safetensors"),
        ("safetensors", {"kind": "tokenizer.json"}, "x.part"),
        ("gguf", {"kind": "config.json"}, "x.part"),
    ],
)
def test_a_single_file_is_called_as_the_configuration_beside_it_asks(tmp_path, form, facts, name):
    file, side = a_file("files/x.part", form=form), a_file("files/side.json", form="model_json", facts=facts, side=True)
    recovery = a_recovery(tmp_path, [file, side], [one(file, companions=(Companion(path=side.path, why="sizes"),))])
    gather_models(example(files=(file,), side_files=(side,), models=recovery.models), tmp_path)
    assert linked(tmp_path) == {f"bert/{name}": file.path, f"bert/{facts['kind']}": side.path}


def test_shards_keep_their_names_and_models_of_one_name_get_folders_of_their_own(tmp_path):
    files = [a_file(f"files/m-{n}-of-2.bin", form="pytorch_zip") for n in (1, 2)]
    models = [
        one(files[0], files=tuple(f.path for f in files)),
        one(files[0], name="BERT"),
        one(files[0], name="../.."),
    ]
    gather_models(a_recovery(tmp_path, files, models), tmp_path)
    assert set(linked(tmp_path)) == {
        *("bert/m-1-of-2.bin", "bert/m-2-of-2.bin", "bert/config.json"),
        *("BERT-2/pytorch_model.bin", "BERT-2/config.json", "model/pytorch_model.bin", "model/config.json"),
    }


def test_files_that_share_their_names_with_another_models_have_them_in_their_own_folder(tmp_path):
    shards = [a_file(f"files/m-{n}-of-2@0x9{n}00.safetensors") for n in (1, 2)]
    index = a_file("files/m.safetensors@0x7c0.index.json", form="weights_index", side=True)
    paths = tuple(file.path for file in shards)
    model = one(shards[0], files=paths, companions=(Companion(path=index.path, why="names"),))
    recovery = a_recovery(tmp_path, [*shards, index], [model])
    gather_models(example(files=tuple(shards), side_files=(index,), models=recovery.models), tmp_path)
    names = ("m-1-of-2.safetensors", "m-2-of-2.safetensors", "m.safetensors.index.json")
    assert linked(tmp_path) == {f"bert/{name}": path for name, path in zip(names, (*paths, index.path), strict=True)}


def test_of_two_files_of_one_name_in_one_model_each_is_there(tmp_path):
    files = [a_file("files/part.bin"), a_file("files/part@0x600.bin")]
    gather_models(a_recovery(tmp_path, files, [one(files[0], files=tuple(file.path for file in files))]), tmp_path)
    assert set(linked(tmp_path)) == {"bert/part.bin", "bert/part@0x600.bin", "bert/config.json"}


def test_small_files_that_only_lie_near_are_no_reason_for_a_folder(tmp_path):
    file = a_file("files/x.safetensors")
    near = a_file("files/near.json", form="model_json", facts={"kind": "added_tokens.json"}, side=True)
    model = one(file, companions=(Companion(path=near.path, why="place"),))
    recovery = a_recovery(tmp_path, [file, near], [model])
    gather_models(example(files=(file,), side_files=(near, GUESSED), models=recovery.models), tmp_path)
    assert not (tmp_path / "models").exists()
    guessed = one(file, companions=(Companion(path=GUESSED.path, why="place"),))
    gather_models(example(files=(file,), side_files=(near, GUESSED), models=(guessed,)), tmp_path)
    assert (tmp_path / "models/bert/config.json").is_file()


def test_what_is_damaged_or_alone_gets_no_folder(tmp_path):
    file = a_file("files/x.safetensors")
    models = [one(file, grade=Grade.DAMAGED), one(file, companions=())]
    gather_models(a_recovery(tmp_path, [file], models), tmp_path)
    assert not (tmp_path / "models").exists()


def test_each_run_makes_the_links_anew_and_keeps_what_has_no_other_name(tmp_path):
    file, other = a_file("files/x.safetensors"), a_file("files/y.safetensors")
    recovery = a_recovery(tmp_path, [file, other], [one(file), one(other, name="other")])
    gather_models(recovery, tmp_path)
    (tmp_path / "models/bert/notes.txt").write_text("mine")
    (tmp_path / "models/bert/config.json").write_text("edited")
    (tmp_path / other.path).unlink()  # its link is the last name now
    gather_models(recovery, tmp_path)
    wanted = {
        *(("bert/model.safetensors", file.path), ("bert/notes.txt", "mine"), ("bert/config.json", "edited")),
        *(("other/model.safetensors", other.path), ("other/config.json", CONFIG.path)),
    }
    assert linked(tmp_path) == dict(wanted)
    gather_models(example(files=(file,), side_files=(), models=()), tmp_path)
    assert linked(tmp_path) == dict(wanted - {("bert/model.safetensors", file.path)})


def test_editing_a_small_file_changes_nothing_of_what_was_recovered(tmp_path):
    file = a_file("files/x.safetensors")
    gather_models(a_recovery(tmp_path, [file], [one(file)]), tmp_path)
    (tmp_path / "models/bert/config.json").write_text("edited")
    assert (tmp_path / CONFIG.path).read_text() == CONFIG.path


def test_a_link_in_the_place_of_a_folder_leads_nowhere(tmp_path):
    outside = tmp_path / "outside"
    (outside / "bert").mkdir(parents=True)
    (outside / "bert" / "mine").write_text("mine")
    os.link(outside / "bert" / "mine", outside / "bert" / "twin")
    case = tmp_path / "case"
    case.mkdir()
    (case / "models").symlink_to(outside)
    file = a_file("files/x.safetensors")
    gather_models(a_recovery(case, [file], [one(file)]), case)
    assert sorted(path.name for path in (outside / "bert").iterdir()) == ["mine", "twin"]


def test_without_hard_links_it_is_told_and_no_error(tmp_path, monkeypatch, caplog):
    def refuse(*paths: object, **options: object) -> None:
        raise PermissionError(1, "no links here")

    file = a_file("files/x.safetensors")
    recovery = a_recovery(tmp_path, [file], [one(file)])
    monkeypatch.setattr(gathering.os, "link", refuse)
    gather_models(recovery, tmp_path)
    assert "models are not gathered" in caplog.text


def test_a_model_that_is_not_whole_says_what_is_missing_until_it_is_there(tmp_path):
    file = a_file("files/x.onnx", form="onnx")
    lost = MissingFile(
        name="x.data", size_bytes=64, sha256=None, learnt_from=(file.path,), looked_for="it was looked for\x1b"
    )
    other = MissingFile(name="y.data", size_bytes=None, sha256=None, learnt_from=("files/z",), looked_for="elsewhere")
    recovery = a_recovery(tmp_path, [file], [one(file, missing_shards=("x.data", "y.data"))])
    gather_models(dataclasses.replace(recovery, missing=(lost, other)), tmp_path)
    note = tmp_path / "models/bert/INCOMPLETE.txt"
    lines = note.read_text().splitlines()
    assert "not whole, and does not load" in lines[0]
    assert lines[2:4] == ["  x.data, 64 B, it was looked for⟨U+001B⟩", "  y.data"]
    gather_models(a_recovery(tmp_path, [file], [one(file)]), tmp_path)
    assert not note.exists()
    note.write_text("mine")
    gather_models(dataclasses.replace(recovery, missing=(lost,)), tmp_path)
    assert note.read_text() == "mine"
