"""Gathering: each model in a folder of its own, as its library would load it.

`models/NAME/` holds the shards under the names that an index gives them, and the small files beside them under their
own. Weights are further names of the recovered files (hard links), so they take no room; where the file system has
none, there are no such folders, and nothing is lost. Small files are copies, since people edit them; so is the external
data of ONNX models, since onnx refuses to read such data from a file with several names. Where files of a model are
missing, INCOMPLETE.txt beside the others names them. The links are made anew with each run; a name is removed only
where its bytes have another, and what is there already stays.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from carver.identify.missing import DATA, missing_line, models_of
from carver.identify.naming import safe_name, safe_path
from carver.output import PARTIAL_SUFFIX, make_folder, write_whole
from carver.recovery import CarvedFile, Companion, MissingFile, Model, Recovery
from carver.visible import shortened, visible
from imaging.errors import OutputError
from imaging.ownership import give_to_caller

log = logging.getLogger(__name__)

ROOM = "models"
ROOM_LEFT = 2  # times a copy's size that must be free for it
COPY_BYTES = 1 << 20
ORDER = ("data", "names", "sizes", "place")  # why a small file belongs to a model, the surest first
CONFIGURATIONS = ("config.json", "adapter_config.json", "params.json")
NOTE = "INCOMPLETE.txt"
NOTE_HEAD = "This model is not whole, and does not load as it should. These of its files were not found:"
NOTE_TAIL = """Look for just those in backups, or where the model came from, and put them here under these names.
A library that fills the gaps with random numbers makes a model that loads and is wrong."""
LINE_CHARACTERS = 1000
OF_SEVERAL = re.compile(r"@0x[0-9a-f]+(?:-[0-9]+)?(?=\.)")
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
                    _put(folder / path, room / name, how=_how(files[path]))
                if model.missing_shards and not (room / NOTE).exists():
                    write_whole(room / NOTE, _note(model, recovery.missing).encode())
    except (OSError, OutputError) as fault:
        log.warning("models are not gathered in %s: %s", folder / ROOM, fault)


def _note(model: Model, missing: Iterable[MissingFile]) -> str:
    """Return what is not there of a model, as far as names and the search for it tell."""
    ours = set(model.files)
    told = {one.name: one for one in missing if ours.intersection(one.learnt_from)}
    lines = [
        f"  {shortened(visible(missing_line(told[name]) if name in told else name), LINE_CHARACTERS)}"
        for name in model.missing_shards
    ]
    return "\n".join((NOTE_HEAD, "", *lines, "", NOTE_TAIL, ""))


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


def _how(file: CarvedFile) -> str:
    return "text" if file.side else "copy" if file.format == DATA else "link"


def _put(source: Path, target: Path, *, how: str) -> None:
    """Give the file this name, or copy it there; a file that has the name stays."""
    if target.exists():
        return
    make_folder(target.parent)
    if how == "link":
        os.link(source, target, follow_symlinks=False)
    elif how == "text":
        write_whole(target, source.read_bytes())
    elif shutil.disk_usage(target.parent).free >= ROOM_LEFT * source.stat().st_size:
        _copy(source, target)
    else:
        log.warning("no room to copy %s to %s, where its model looks for it; move it there", source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, by sharing its blocks where the file system can."""
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    with source.open("rb") as old, partial.open("wb") as new:
        left_bytes = source.stat().st_size
        with suppress(OSError, AttributeError):  # another file system, or another system
            while left_bytes and (done := os.copy_file_range(old.fileno(), new.fileno(), left_bytes)):
                left_bytes -= done
        old.seek(source.stat().st_size - left_bytes)
        new.seek(old.tell())
        shutil.copyfileobj(old, new, COPY_BYTES)
    give_to_caller(partial)
    partial.rename(target)


def _clear(room: Path) -> None:
    """Remove what an earlier run linked: names of files that have another one, and folders that are empty then."""
    for model in room.iterdir() if room.is_dir() else ():
        if model.is_dir() and not model.is_symlink():
            for folder, _, names in os.walk(model, topdown=False):
                for path in (Path(folder, name) for name in names):
                    if path.is_file() and not path.is_symlink() and (_is_ours(path) or path.stat().st_nlink > 1):
                        path.unlink()
                with suppress(OSError):  # the user put something there
                    Path(folder).rmdir()
    with suppress(OSError):
        room.rmdir()


def _is_ours(path: Path) -> bool:
    """Whether a file is half written, or what an earlier run said of what was missing then."""
    if path.name != NOTE:
        return path.name.endswith(PARTIAL_SUFFIX)
    with path.open("rb") as file:
        return file.read(len(NOTE_HEAD)) == NOTE_HEAD.encode()


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
    surest = sorted(model.companions, key=lambda one: ORDER.index(one.why))
    told = files[model.files[0]].facts.get("external_files")
    for one in surest:
        names = _companion_names(files[one.path].facts, one, told if isinstance(told, dict) else ())
        pairs += [(name, one.path) for name in names]
    for name, path in pairs:
        own = OF_SEVERAL.sub("", name)  # in the case's one folder other models' files may be called the same
        free = [one for one in dict.fromkeys((own, name)) if one.lower() not in given]
        if free:
            given.add(free[0].lower())
            yield free[0], path


def _companion_names(facts: Mapping[str, object], companion: Companion, told: Collection[str]) -> list[str]:
    """Return what a file beside the weights is called: as the model tells (`told`), as its kind asks, or as it is."""
    if companion.why == "data":
        names = [name for _, name in models_of(facts) if isinstance(name, str) and name in told and safe_path(name)]
        return list(dict.fromkeys(map(safe_path, names))) or [PurePosixPath(companion.path).name]
    kind = facts.get("kind")
    return [kind if isinstance(kind, str) and "." in kind else PurePosixPath(companion.path).name]


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
