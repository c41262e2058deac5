"""`carver score`: a case against the truth of its image."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from carver import score as scoring
from carver.cli import screen
from carver.listing import load_report, load_truth
from carver.output import write_whole
from imaging.errors import InputError, StrictShortfall

REPORT = "report.json"


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Print recall and precision by format; hold them against the bars that were given."""
    found = scoring.score(load_report(_report_path(options.case)), load_truth(options.truth))
    if options.json:
        screen.put_json(scoring.as_json(found))
    else:
        screen.put(scoring.render_text(found).rstrip("\n"))
    if options.junit:
        text = scoring.render_junit(found, options.min_recall, options.min_precision)
        write_whole(options.junit, text.encode())
    missed = scoring.shortfalls(found, options.min_recall, options.min_precision)
    if missed:
        raise StrictShortfall("; ".join(missed))
    return 0


def _report_path(case: Path) -> Path:
    if not case.exists():
        raise InputError(f"{case} does not exist; give a case folder, or its {REPORT}")
    if not case.is_dir():
        return case
    if not (case / REPORT).is_file():
        raise InputError(f"{case} holds no {REPORT} yet; `carver rescue` or `carver carve` writes it")
    return case / REPORT
