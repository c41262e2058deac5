"""`carver map`: mapfiles shown, compared and changed, as by ddrescuelog; what is made goes to standard output."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from carver.cli import map_files, map_status, screen
from carver.cli.map_files import STANDARD
from imaging import maptool
from imaging.errors import Interrupted, OutputError, UsageError
from imaging.extent import ExtentSet, span
from imaging.map_lines import MAX_OFFSET_BYTES
from imaging.mapfile import BlockStatus, Mapfile
from imaging.mapstore import journal_path, lock_exclusively

NO = 1  # differs, is not done: ddrescuelog's exit status, on which scripts rely
HTML = (".html", ".htm")
LINES_AT_ONCE = 1 << 16

Stop = Callable[[], bool]


def run(options: Namespace, stop: Stop) -> int:
    """Do the one operation that was chosen."""
    name = next((name for name in OPERATIONS if getattr(options, name) is not None), None)
    if name is None:
        raise UsageError("say what to do with it; `carver map -t MAPFILE` shows it, `carver map --help` tells the rest")
    if len(options.maps) > 1 and not options.show_status:
        raise UsageError("give one mapfile; only --show-status takes more")
    others = (options.domain_mapfile, _other(options), STANDARD if options.create_mapfile is not None else None)
    inputs = [*others, *(options.maps if options.create_mapfile is None else [])]
    if inputs.count(STANDARD) > 1:
        raise UsageError("standard input can be read only once: name a file")
    return OPERATIONS[name](options, stop)


def _other(options: Namespace) -> Path | None:
    """Return the second map of an operation that has two."""
    named = (options.xor_mapfile, options.and_mapfile, options.or_mapfile)
    compared = (options.compare_mapfile, options.compare_as_domain)
    return next((path for path in (*named, *compared) if path is not None), None)


def _status(options: Namespace, stop: Stop) -> int:
    domain = _domain(options)
    for path in options.maps:
        mapfile = map_files.load(path)
        here = domain & _extent(mapfile)
        if not here:
            screen.say(f"{path}: nothing to show, the domain is empty")
            continue
        shown = map_status.MapStatus(mapfile=mapfile, domain=here)
        if options.json:
            screen.put_json({"map": str(path), **map_status.as_json(shown)})
        else:
            name = str(path) if options.verbose else ""
            screen.put(map_status.render_text(shown, name=name, binary=options.binary_prefixes).removesuffix("\n"))
    return 0


def _list(options: Namespace, stop: Stop) -> int:
    statuses = [_type(character, "-l") for character in options.list_blocks]
    mapfile, domain, by_bytes = map_files.load(options.maps[0]), _domain(options), _move(options)
    if options.format != "list":
        if options.json:
            raise UsageError("a bitmap is for machines already: leave --json out")
        bits = maptool.bitmap(
            mapfile,
            statuses,
            block_bytes=options.block_size,
            big_endian=options.format == "bitmap-be",
            domain=domain,
            by_bytes=by_bytes,
        )
        if not domain & _extent(mapfile):  # as by ddrescuelog
            bits = b""
        map_files.write_out([bits])
        return 0
    numbers = maptool.listed_blocks(mapfile, statuses, block_bytes=options.block_size, domain=domain, by_bytes=by_bytes)
    if options.json:
        screen.put_json({"block_bytes": options.block_size, "blocks": list(numbers)})
    else:
        map_files.write_out(_lines(numbers, stop))
    return 0


def _lines(numbers: Iterator[int], stop: Stop) -> Iterator[bytes]:
    while batch := list(islice(numbers, LINES_AT_ONCE)):
        if stop():
            raise Interrupted("stopped; the list is not complete")
        yield "".join(f"{number}\n" for number in batch).encode()


def _create(options: Namespace, stop: Stop) -> int:
    if len(options.create_mapfile) != 2:
        raise UsageError(f"-c{options.create_mapfile}: give two types, of the listed blocks and of the others")
    listed, others = (_type(character, "-c") for character in options.create_mapfile)
    domain = _domain(options)
    if not domain:
        screen.say("nothing to do, the domain is empty")
        return 0
    content = sys.stdin.buffer.read()
    numbers: Iterable[int] = map_files.block_numbers(content)
    if options.format != "list":
        numbers = maptool.bitmap_blocks(content, big_endian=options.format == "bitmap-be")
    made = maptool.from_block_list(
        numbers,
        size_bytes=int(domain.ends[-1]),
        block_bytes=options.block_size,
        listed=listed,
        others=others,
        domain=domain,
        by_bytes=_move(options),
    )
    if options.maps[0] == STANDARD:
        return map_files.put_map(made, options)
    map_files.write_new(options.maps[0], map_files.text_of(made, options))
    if options.json:
        screen.put_json({"map": str(options.maps[0]), **map_files.as_json(made)})
    return 0


def _complete(options: Namespace, stop: Stop) -> int:
    if len(options.complete_mapfile) != 1:
        raise UsageError(f"-C{options.complete_mapfile}: give one type")
    fill = _type(options.complete_mapfile, "-C")
    return map_files.put_map(map_files.load_loosely(options.maps[0], fill), options)


def _change(options: Namespace, stop: Stop) -> int:
    old, comma, new = options.change_types.partition(",")
    if not comma:
        raise UsageError(f"-a {options.change_types}: give the old types, a comma, and the new types")
    mapfile, domain = map_files.load(options.maps[0]), _domain(options)
    return _put_changed(mapfile, maptool.change_types(mapfile, old, new, domain=domain), domain, options)


def _invert(options: Namespace, stop: Stop) -> int:
    mapfile, domain = map_files.load(options.maps[0]), _domain(options)
    return _put_changed(mapfile, maptool.invert(mapfile, domain=domain), domain, options)


def _annotate(options: Namespace, stop: Stop) -> int:
    mapfile, domain = map_files.load(options.maps[0]), _domain(options)
    if options.json:
        return _put_changed(mapfile, mapfile, domain, options)
    text = map_status.annotated(mapfile, domain, comments=map_files.comments(options), binary=options.binary_prefixes)
    map_files.write_out([text.encode(errors="surrogateescape")])
    return 0


def _picture(options: Namespace, stop: Stop) -> int:
    """Draw a map, also one that is being written."""
    from carver.report import map_picture  # here: the other operations need no reports

    mapfile, domain = map_files.load(options.maps[0]), _domain(options)
    draw = map_picture.picture_html if options.picture.suffix.lower() in HTML else map_picture.picture_svg
    content = draw(mapfile, name=options.maps[0].name, domain=domain & _extent(mapfile)).encode()
    if options.picture == STANDARD:
        map_files.write_out([content])
        return 0
    map_files.write_new(options.picture, content)
    if options.json:
        screen.put_json({"picture": str(options.picture)})
    elif not options.quiet:
        screen.say(f"{options.picture} is the picture of {options.maps[0]}; any browser shows it")
    return 0


def _combine(options: Namespace, stop: Stop) -> int:
    first, other = map_files.load(options.maps[0]), map_files.load(_other(options) or STANDARD)
    operation = maptool.or_finished
    if options.and_mapfile is not None:
        operation = maptool.and_finished
    elif options.xor_mapfile is not None:
        operation = maptool.xor_finished
    domain = _domain(options) & _extent(other)
    return _put_changed(first, operation(first, other, domain=domain), domain, options)


def _shift(options: Namespace, stop: Stop) -> int:
    by_bytes = _move(options)
    if options.input_position and options.output_position != 0:
        raise UsageError("--shift moves by -o minus -i, one of which must be 0 (-o is -i where it is not given)")
    mapfile = map_files.load(options.maps[0])
    domain = _domain(options) & _extent(mapfile)
    if not domain:
        screen.say("nothing to do, the domain is empty")
        return 0
    return map_files.put_map(maptool.shifted(mapfile, by_bytes, end_bytes=int(domain.ends[-1])), options)


def _compare(options: Namespace, stop: Stop) -> int:
    first, path = map_files.load(options.maps[0]), _other(options) or STANDARD
    by_domain = options.compare_as_domain is not None
    other = map_files.load_loosely(path) if by_domain and options.loose_domain else map_files.load(path)
    domain = _domain(options)
    if not (domain & _extent(first) and domain & _extent(other)):
        return _answer(
            options, "same", holds=False, why="the domain is empty in one of the maps, so nothing was compared"
        )
    same = (maptool.same_finished if by_domain else maptool.same_blocks)(first, other, domain=domain)
    return _answer(options, "same", holds=same, why=f"{options.maps[0]} and {path} differ")


def _done(options: Namespace, stop: Stop) -> int:
    holds, why = _is_done(map_files.load(options.maps[0]), options)
    return _answer(options, "done", holds=holds, why=why)


def _delete(options: Namespace, stop: Stop) -> int:
    """Delete a map and its journal, unless someone is writing them."""
    if options.maps[0] == STANDARD:
        return _done(options, stop)
    path = options.maps[0].resolve()
    journal = journal_path(path)
    with lock_exclusively(journal) if journal.exists() else nullcontext():
        holds, why = _is_done(map_files.load(path), options)
        if holds:
            try:
                path.unlink()
                journal.unlink(missing_ok=True)
            except OSError as fault:
                raise OutputError(f"cannot delete {path}: {os.strerror(fault.errno or 0)}") from fault
    return _answer(options, "deleted", holds=holds, why=why)


def _is_done(mapfile: Mapfile, options: Namespace) -> tuple[bool, str]:
    """Tell whether the domain is finished, and why not."""
    domain = _domain(options) & _extent(mapfile)
    if not domain:
        return False, "the domain is empty, so nothing was tested"
    unread_bytes = (mapfile.unread & domain).total_bytes
    return unread_bytes == 0, f"{options.maps[0]} is not done: {screen.human(unread_bytes)} are not finished"


def _answer(options: Namespace, question: str, *, holds: bool, why: str) -> int:
    if options.json:
        screen.put_json({question: holds})
    if not holds and not options.quiet:
        screen.say(why)
    return 0 if holds else NO


def _domain(options: Namespace) -> ExtentSet:
    """Return the bytes that the operation is restricted to; not cut to the map."""
    start = options.input_position
    end = MAX_OFFSET_BYTES if options.size is None else min(start + options.size, MAX_OFFSET_BYTES)
    domain = ExtentSet([span(start, end)])
    if options.domain_mapfile is None:
        return domain
    load = map_files.load_loosely if options.loose_domain else map_files.load
    return domain & load(options.domain_mapfile).extents(BlockStatus.FINISHED)


def _move(options: Namespace) -> int:
    """Return by how much -l, -c and --shift move positions."""
    return 0 if options.output_position is None else int(options.output_position) - int(options.input_position)


def _extent(mapfile: Mapfile) -> ExtentSet:
    return ExtentSet([span(mapfile.start_bytes, mapfile.end_bytes)])


def _type(character: str, option: str) -> BlockStatus:
    if character not in list(BlockStatus):
        raise UsageError(f"{option}: {character!r} is no block status; those are {' '.join(BlockStatus)}")
    return BlockStatus(character)


def _put_changed(before: Mapfile, after: Mapfile, domain: ExtentSet, options: Namespace) -> int:
    """Put the changed map out, also an unchanged one; but tell if there was nothing to change."""
    if not _extent(before) & domain and not options.quiet:
        screen.say("the domain is empty: the map stays as it is")
    return map_files.put_map(after, options)


OPERATIONS: dict[str, Callable[[Namespace, Stop], int]] = {
    "show_status": _status,
    "list_blocks": _list,
    "create_mapfile": _create,
    "complete_mapfile": _complete,
    "change_types": _change,
    "invert_mapfile": _invert,
    "xor_mapfile": _combine,
    "and_mapfile": _combine,
    "or_mapfile": _combine,
    "annotate_mapfile": _annotate,
    "picture": _picture,
    "shift": _shift,
    "compare_mapfile": _compare,
    "compare_as_domain": _compare,
    "done_status": _done,
    "delete_if_done": _delete,
}
