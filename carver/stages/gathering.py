"""Gathering: each model in a folder of its own, as its library would load it.

`models/NAME/` holds the shards under the names that an index gives them, and the small files beside them under their
own. Weights are further names of the recovered files (hard links), so they take no room; where the file system has
none, there are no such folders, and nothing is lost. Small files are copies, since people edit them. The links are made
anew with each run; a name is removed only where its bytes have another, and what is there already stays.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from carver.identify.naming import safe_name
from carver.output import make_folder, write_whole
from carver.recovery import CarvedFile, Model, Recovery
from imaging.errors import OutputError

log = logging.getLogger(__name__)

ROOM = "models"
ORDER = ("names", "sizes", "place")  # why a small file belongs to a model, the surest first
CONFIGURATIONS = ("config.json", "adapter_config.json", "params.json")
ONE_FILE = {"safetensors": ".safetensors", "pytorch_zip": ".bin", "pytorch_legacy": ".bin"}


def gather_models(recovery: Recovery, folder: Path) -> None:
    """Link the files of each good model that has a configuration or several shards into `folder`/models."""
    if (folder / ROOM).is_symlink():
        return  # it leads to where nothing of ours belongs
    _clear(folder / ROOM)
    files = _with_company(recovery)
    rooms: Counter[str] = Counter()
    try:
        for model in recovery.models:
            if model.grade.good and _worth_a_folder(model, files):
                room = folder / ROOM / _room_name(model, rooms)
                make_folder(room)
                for name, path in _names(model, files):
                    _put(folder / path, room / name, as_link=not files[path].side)
    except (OSError, OutputError) as fault:
        log.warning("models are not gathered in %s: %s", folder / ROOM, fault)


def _with_company(recovery: Recovery) -> dict[str, CarvedFile]:
    """Return the files of models that are more than one file, by path, and only what is asked of them here."""
    models = (model for model in recovery.models if model.grade.good and (model.companions or len(model.files) > 1))
    wanted = {path for model in models for path in (*model.files, *(one.path for one in model.companions))}
    files = (file for file in chain(recovery.files, recovery.side_files) if file.path in wanted) if wanted else ()
    return {file.path: replace(file, tensors=(), findings=(), layout=()) for file in files}


def _worth_a_folder(model: Model, files: Mapping[str, CarvedFile]) -> bool:
    """Tell whether there is more than a guess about a few small files that happen to lie near."""
    if not model.companions and len(model.files) == 1:
        return False
    kinds = {files[one.path].facts.get("kind") for one in model.companions}
    told = any(one.why != "place" for one in model.companions)
    return told or len(model.files) > 1 or not kinds.isdisjoint(CONFIGURATIONS)


def _put(source: Path, target: Path, *, as_link: bool) -> None:
    """Give the file this name, or copy it there; a file that has the name stays."""
    if target.exists():
        return
    if as_link:
        os.link(source, target, follow_symlinks=False)
    else:
        write_whole(target, source.read_bytes())


def _clear(room: Path) -> None:
    """Remove what an earlier run linked: names of files that have another one, and folders that are empty then."""
    for model in room.iterdir() if room.is_dir() else ():
        if model.is_dir() and not model.is_symlink():
            for path in model.iterdir():
                if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
                    path.unlink()
            with suppress(OSError):  # the user put something there
                model.rmdir()
    with suppress(OSError):
        room.rmdir()


def _room_name(model: Model, rooms: Counter[str]) -> str:
    """Return a name that no model had; `rooms` counts how often each was wanted."""
    stem = name = safe_name(model.name) or "model"
    while rooms[name.lower()]:
        rooms[stem.lower()] += 1
        name = f"{stem}-{rooms[stem.lower()]}"
    rooms[name.lower()] = 1
    return name


def _names(model: Model, files: Mapping[str, CarvedFile]) -> Iterator[tuple[str, str]]:
    """Yield (name in the model's folder, path in the case) of its files; of several for one name the surest."""
    given: set[str] = set()
    pairs = [(_weights_name(model, files[path], files), path) for path in model.files]
    for companion in sorted(model.companions, key=lambda one: ORDER.index(one.why)):
        kind = files[companion.path].facts.get("kind")
        name = kind if isinstance(kind, str) and "." in kind else PurePosixPath(companion.path).name
        pairs.append((name, companion.path))
    for name, path in pairs:
        if name.lower() not in given:
            given.add(name.lower())
            yield name, path


def _weights_name(model: Model, file: CarvedFile, files: Mapping[str, CarvedFile]) -> str:
    """Return what the library that wrote the configuration beside it calls a model's one file; else its own name."""
    kinds = {files[companion.path].facts.get("kind"): files[companion.path].facts for companion in model.companions}
    suffix = ONE_FILE.get(file.format)
    if len(model.files) > 1 or suffix is None:
        return PurePosixPath(file.path).name
    if "adapter_config.json" in kinds:
        return f"adapter_model{suffix}"
    if "_class_name" in kinds.get("config.json", {}):
        return f"diffusion_pytorch_model{suffix}"
    if "config.json" in kinds:
        return f"model{suffix}" if file.format == "safetensors" else f"pytorch_model{suffix}"
    return PurePosixPath(file.path).name
