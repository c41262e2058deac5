"""`carver report`: a case's reports written anew."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from carver.case import Case
from carver.cli import screen
from carver.cli.carve import metadata_options
from carver.recover import keep_metadata, load_recovery
from carver.report import write_reports


def run(options: Namespace, stop: Callable[[], bool]) -> int:
    """Write every report again from the case's logs."""
    with Case.existing(options.case) as case:
        keep_metadata(case, metadata_options(options))
        recovery = load_recovery(case)
        paths = write_reports(recovery, case.folder)
    screen.tell_recovery(recovery, options.case)
    screen.tell_image(recovery, options.case)
    if options.json:
        screen.put_json({**screen.summary_json(recovery, options.case), "reports": [str(path) for path in paths]})
    return 0
