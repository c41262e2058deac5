"""`carver scan`: where files may begin in an image."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Callable, Iterator

import signatures
from carver.automaton import build
from carver.candidates import Candidate, candidates
from carver.case import Case
from carver.cli import screen
from carver.cli.carve import check_length, choices, open_checked
from carver.cli.opening import check_path
from carver.cli.sizes import MAX_POSITION_BYTES
from carver.report.wording import NOTHING_CAME_BACK, plural
from carver.scan import Hits, scan
from carver.stages import Choices, Hooks
from carver.stages.judging import supposed_files
from carver.stages.scanning import scan_image
from imaging.device import describe, identity
from imaging.errors import Interrupted
from imaging.extent import ExtentSet
from imaging.image import MappedImage


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Tell the candidates, a line each."""
    check_path(options.image)
    chosen = choices(options)
    image = open_checked(options, folder=options.case)
    total = 0
    with screen.Bars(quiet=options.quiet) as bars:
        hooks = Hooks(on_progress=bars.show, stop=stop)
        found = _keeping(image, options, chosen, hooks) if options.case else _passing(image, chosen, hooks)
        for candidate in found:
            if options.formats is None and signatures.formats()[candidate.format].side:
                continue  # every JSON file on the drive, nearly
            _put(candidate, as_json=options.json)
            total += 1
    screen.say(_next_step(options, total))
    check_length(image)
    return 0


def _next_step(options: Namespace, total: int) -> str:
    """Return how many places there are, and the command that goes on with what this one was given."""
    if not total:
        chosen = options.range is not None or options.formats is not None
        advice = "Only the chosen range and formats were looked at." if chosen else NOTHING_CAME_BACK
        return f"No place where a file may begin was found. {advice}"
    words = ["carver", "carve", str(options.image), *([str(options.map)] if options.map else [])]
    words += ["--formats", options.formats] if options.formats is not None else []
    if options.range is not None:
        start, end = options.range
        words += ["--range", f"{start:#x}-" + (f"{end:#x}" if end < MAX_POSITION_BYTES else "")]
    out = shlex.quote(str(options.case)) if options.case else "DIR"
    return (
        f"{plural(total, 'place', 'places')} where a file may begin; `{shlex.join(words)} --out {out}` checks and "
        f"writes {'it' if total == 1 else 'them'}."
    )


def _passing(image: MappedImage, chosen: Choices, hooks: Hooks) -> Iterator[Candidate]:
    """Yield candidates as they are found; nothing is kept."""
    formats = {name: signatures.formats()[name] for name in chosen.formats}
    table = build(formats.values()).table
    yield from candidates(image.source, _hits(image, chosen, hooks), table, formats)
    if hooks.stop():
        raise Interrupted("stopped while scanning; nothing was kept: `--case DIR` keeps what is found")


def _hits(image: MappedImage, chosen: Choices, hooks: Hooks) -> Iterator[Hits]:
    found = scan(
        image.source,
        [signatures.formats()[name] for name in chosen.formats],
        domain=None if chosen.domain is None else ExtentSet((chosen.domain,)),
        threads=chosen.threads,
        on_progress=lambda done, total: hooks.on_progress("scanning", done, total),
        stop=hooks.stop,
    )
    return (chunk.hits for chunk in found)


def _keeping(image: MappedImage, options: Namespace, chosen: Choices, hooks: Hooks) -> Iterator[Candidate]:
    """Scan into a case, then yield its candidates."""
    bound = identity(image.source, describe(options.image))
    formats = signatures.formats()
    with Case.create(options.case, locator=str(options.image), identity=bound) as case:
        store = scan_image(case, image, formats, chosen, hooks)
        yield from supposed_files(image, store, formats, chosen, hooks)
        store.close()


def _put(candidate: Candidate, *, as_json: bool) -> None:
    if as_json:
        hits = [{"offset_bytes": offset, "pattern": name} for offset, name in candidate.hits]
        screen.put_json({"offset_bytes": candidate.start_bytes, "format": candidate.format, "hits": hits})
    else:
        names = ", ".join(sorted({name for _, name in candidate.hits}))
        screen.put(f"{candidate.start_bytes:#014x}  {candidate.format:<12}  {names}")
