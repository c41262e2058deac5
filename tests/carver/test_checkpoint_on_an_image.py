"""A sharded checkpoint as it lies on a drive, with all its small files: it comes back as one, ready to be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.formats import model_json, safetensors, weights_index
from fixtures.formats.git_lfs_pointer import pointer
from tests.carver.laid_out import carve
from tests.carver.made_models import WIDTH, WORDS, llama

NAMES = [f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3)]
SHARDS = (llama([0, 1], last=False), llama([2, 3], first=False, last=False), llama([4], first=False))
CONFIG = {
    "_name_or_path": "runs/tiny",
    "model_type": "mistral",
    "hidden_size": WIDTH,
    "num_hidden_layers": 5,
    "vocab_size": WORDS,
}
STATE = {"global_step": 1500, "log_history": []}


def shard(number: int) -> bytes:
    specs = tuple((name, "F16", shape) for name, shape in SHARDS[number])
    data = bytes((at * 37 + number) % 251 for at in range(sum(map(safetensors.payload_bytes, specs))))
    return safetensors.assemble(safetensors.compact(safetensors.entries(specs)), data)


def small_files() -> list[bytes]:
    index = weights_index.index(
        {name: [n for n, _ in held] for name, held in zip(NAMES, SHARDS, strict=True)}, total_bytes=9
    )
    return [index, *map(model_json.written, (CONFIG, model_json.tokenizer(WORDS - 3), STATE))]


def test_the_whole_of_it_is_told_as_one_model_and_gathered(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    report = carve(tmp_path, [shard(2), *small_files(), shard(0), pointer(shard(0)), shard(1)])
    (model,) = report["models"]
    assert model["files"] == [f"files/{name}" for name in NAMES]
    assert (model["name"], model["name_source"]) == ("tiny", "config.json")
    assert (model["family"], model["layers"], model["step"]) == ("Mistral", 5, 1500)
    assert (model["shards"], model["missing_shards"], report["missing"]) == (3, [], [])
    assert [(one["path"], one["why"]) for one in model["companions"]] == [
        ("files/model.safetensors.index.json", "names"),
        ("files/config.json", "sizes"),
        ("files/tokenizer.json", "sizes"),
        ("files/trainer_state.json", "place"),
    ]
    assert [file["grade"] for file in sorted(report["files"], key=lambda f: f["path"])] == [
        "INTACT",
        *2 * ["CONSISTENT"],
    ]
    room = tmp_path / "case" / "models" / "tiny"
    index = json.loads((room / "model.safetensors.index.json").read_text())
    for tensor, name in index["weight_map"].items():  # as transformers loads it
        with library.safe_open(room / name, "np") as held:
            assert tensor in held.keys()  # noqa: SIM118 - no mapping
    assert json.loads((room / "config.json").read_text()) == CONFIG


def test_a_lost_shard_is_named_and_the_rest_is_gathered(tmp_path: Path) -> None:
    report = carve(tmp_path, [*small_files(), shard(0), shard(2)])
    (model,) = report["models"]
    assert model["missing_shards"] == [NAMES[1]] == [file["name"] for file in report["missing"]]
    there = {path.name for path in (tmp_path / "case" / "models" / "tiny").iterdir()}
    assert there >= {NAMES[0], NAMES[2], "config.json", "tokenizer.json"}


def test_without_an_index_the_layers_put_it_together(tmp_path: Path) -> None:
    report = carve(tmp_path, [shard(1), shard(2), shard(0)])
    (model,) = report["models"]
    assert (model["shard_basis"], model["missing_shards"], model["layers"]) == ("layers", [], 5)
