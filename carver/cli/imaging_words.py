"""Imaging in words: where a rescue is, what the rest of it is worth, and how it ended; pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from carver.cli.durations import duration, roughly
from carver.cli.screen import human
from carver.report.wording import plural
from imaging.rescue.forecast import Forecast
from imaging.rescue.options import COPYING_PASSES, RescueOptions
from imaging.rescue.plan import Heading, Phase, heading_of
from imaging.rescue.progress import Progress, RescueSummary, Totals

WAIT_TOLD_SECONDS = 2.0
WORTH_A_WORD_SECONDS = 60.0  # what takes less needs no advice
WORTH_A_WORD_READS = 1000  # likewise, while the time is unknown
TELLING_READS = 50  # fewer say nothing of a success rate
FEW = 0.05
MEANING = {
    Phase.COPYING: "copying what reads well",
    Phase.TRIMMING: "finding the edges of bad areas",
    Phase.SCRAPING: "trying bad areas sector by sector",
    Phase.RETRYING: "trying bad sectors again",
    Phase.FINISHED: "finished",
}
NUMBERS = {Phase.COPYING: 1, Phase.TRIMMING: 2, Phase.SCRAPING: 3, Phase.RETRYING: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """What the user typed, as far as sentences name it.

    Attributes:
        image: the image.
        map: its mapfile.
        options: what was asked of the rescue.
        carves: carving follows by itself (`carver rescue`).
    """

    image: Path
    map: Path
    options: RescueOptions
    carves: bool = False

    @property
    def carve_command(self) -> str:
        """The command that carves what is read so far, also while imaging goes on."""
        words = ["carver", "carve", str(self.image)]
        if self.map != self.image.with_name(self.image.name + ".map"):
            words.append(str(self.map))
        return f"{shlex.join(words)} --out DIR"


def share(totals: Totals) -> str:
    """Return how much is read, in hundredths of a percent, cut off: it never calls whole what is not."""
    if totals.size_bytes == 0:
        return "100.00 %"
    hundredths = 10_000 * totals.rescued_bytes // totals.size_bytes
    return f"{hundredths // 100}.{hundredths % 100:02} %"


def phase_line(progress: Progress, options: RescueOptions) -> str:
    """Return the phase, which way it goes, and what it means: "scraping (3 of 4), pass 1: trying bad areas …"."""
    phase = progress.phase
    if phase is Phase.FINISHED:
        return MEANING[phase]
    way = ""
    if phase in (Phase.COPYING, Phase.RETRYING):
        backward = heading_of(progress.pass_number, options) is Heading.BACKWARD
        way = f", pass {progress.pass_number}{' backwards' if backward else ''}"
    return f"{phase.word} (phase {NUMBERS[phase]} of 4){way}: {MEANING[phase]}"


def rate_line(progress: Progress) -> str:
    """Return how fast it goes, and for how long it has."""
    return (
        f"now {human(int(progress.rate_bytes))}/s, average {human(int(progress.average_rate_bytes))}/s, "
        f"running {duration(progress.seconds)}"
    )


def remaining(forecast: Forecast) -> str:
    """Return how long it may still take, as far as that is known."""
    if forecast.phase is Phase.FINISHED:
        return "nothing"
    text = "unknown" if forecast.seconds is None else f"about {roughly(forecast.seconds)}"
    if forecast.phase is Phase.RETRYING:
        text += " for this pass"
    if forecast.later_bytes:
        text += f", then {human(forecast.later_bytes)} that were left for later"
    if forecast.later_reads:
        text += f", then up to {forecast.later_reads:,} reads in bad areas"
        if forecast.later_seconds is not None:
            text += f" ({roughly(forecast.later_seconds)})"
    return text


def place_line(progress: Progress) -> str:
    """Return where it reads, when that last went well, and where it last did not."""
    line = f"at {progress.position_bytes:#x} ({human(progress.position_bytes)})"
    if progress.since_success_seconds >= 1:
        line += f", nothing read for {duration(progress.since_success_seconds)}"
    if progress.last_error_bytes is not None:
        line += f"; last error at {progress.last_error_bytes:#x}"
    return line


def damage_line(progress: Progress) -> str:
    """Return what did not read, by what is known of it."""
    totals = progress.totals
    parts = [
        f"bad {human(totals.bad_bytes)} in {plural(totals.bad_areas, 'area', 'areas')}",
        f"not trimmed {human(totals.non_trimmed_bytes)}",
        f"not scraped {human(totals.non_scraped_bytes)}",
        f"read errors {progress.read_errors:,}",
        f"slow reads {progress.slow_reads:,}",
    ]
    if progress.hangs:
        parts.append(f"hangs {progress.hangs:,}")
    return ", ".join(parts)


def trouble(progress: Progress) -> str | None:
    """Return what the user should know of a drive that does not answer; None where it does."""
    if progress.gone:
        return f"the drive has vanished: waiting for it to come back, {progress.waiting_seconds:.0f} s"
    if progress.hung:
        return (
            f"the drive hangs since {progress.waiting_seconds:.0f} s; its place is left for last, and reading goes on "
            "as soon as it answers (Ctrl-C is safe)"
        )
    if progress.waiting_seconds >= WAIT_TOLD_SECONDS:
        return f"the drive has not answered for {progress.waiting_seconds:.0f} s (Ctrl-C is safe)"
    return None


def log_line(progress: Progress, forecast: Forecast, options: RescueOptions) -> str:
    """Return where the rescue is, in one line for a log."""
    totals = progress.totals
    line = (
        f"{phase_line(progress, options)}; {share(totals)} read ({human(totals.rescued_bytes)} of "
        f"{human(totals.size_bytes)}), {_rate_so_far(progress)}"
    )
    if progress.read_errors:
        line += f", {damage_line(progress)}"
    if progress.phase is Phase.FINISHED:
        return line
    return f"{line}; remaining: {remaining(forecast)}"


def _rate_so_far(progress: Progress) -> str:
    """Return the rate of now, or of the whole run at its end, where nothing is read any more."""
    if progress.phase is Phase.FINISHED:
        return f"average {human(int(progress.average_rate_bytes))}/s, took {duration(progress.seconds)}"
    return f"{human(int(progress.rate_bytes))}/s"


def advice(progress: Progress, forecast: Forecast, road: Road) -> str | None:
    """Return what the rest is worth, when all that reads well is read; None while there is nothing to weigh.

    Reads are the sectors that are left, one read each; the seconds are theirs at the pace of the last half minute; how
    likely they are to win anything is told from this phase's own reads, once there are enough of them.
    """
    if progress.phase not in (Phase.TRIMMING, Phase.SCRAPING, Phase.RETRYING) or not forecast.reads:
        return None
    if forecast.later_bytes:  # among them much may still read well
        return None
    reads = forecast.later_reads + forecast.reads
    known = None not in (forecast.seconds, forecast.later_seconds)
    seconds = (forecast.seconds or 0) + (forecast.later_seconds or 0)
    if (known and seconds < WORTH_A_WORD_SECONDS) or (not known and reads < WORTH_A_WORD_READS):
        return None
    what = {Phase.RETRYING: "This retry pass", Phase.SCRAPING: "Scraping the rest"}.get(progress.phase, "The rest")
    took = f", about {roughly(seconds)} at the present rate," if known else ""
    return (
        f"{share(progress.totals)} is read. {what} needs up to {reads:,} more reads{took} {_likely(forecast)}. You can "
        f"carve now, in another terminal, while this goes on: `{road.carve_command}`; or stop with Ctrl-C: the same "
        "command goes on later"
    )


def _likely(forecast: Forecast) -> str:
    if forecast.tried < TELLING_READS:
        return "and how many sectors it will win is not known yet"
    so_far = f"{forecast.won:,} of {forecast.tried:,} reads so far"
    if forecast.won < FEW * forecast.tried:
        return f"and is likely to win few sectors ({so_far})"
    return f"and still wins sectors ({so_far})"


def ending(summary: RescueSummary, road: Road) -> list[str]:
    """Return how it ended, in plain sentences: what was read, what was not and why, what to do next."""
    return [*_happened(summary), _read(summary, road), *_next(summary, road)]


def _happened(summary: RescueSummary) -> list[str]:
    lines = []
    if summary.hung:
        places = "1 place" if len(summary.hung) == 1 else f"{len(summary.hung):,} places"
        lines.append(f"The drive hung at {places}; such places were left for last.")
    if summary.returned_as:
        lines.append(f"The drive vanished and came back as {', '.join(summary.returned_as)}.")
    if summary.source_end_bytes is not None:
        lines.append(f"The drive ended at {summary.source_end_bytes:#x}, before the size that it claims.")
    if summary.blank_alarm:
        lines.append(
            f"warning: {human(summary.blank_after_errors_bytes)} after errors read as one repeated sector: a "
            "USB bridge may have answered without data; try another cable or adapter, with a new image"
        )
    if summary.limit:
        lines.append(f"Ended by the limit that was set: {summary.limit}.")
    return lines


def _read(summary: RescueSummary, road: Road) -> str:
    """Return what was read of what was asked for; where that was not all of the drive, the rest as well."""
    asked = summary.asked or summary.totals
    if asked.size_bytes == 0:
        return "Nothing was read: the part that was asked for is empty."
    rest_bytes = summary.totals.size_bytes - asked.size_bytes
    rest = f" The other {human(rest_bytes)} of the drive were not asked for." if rest_bytes else ""
    if asked.rescued_bytes == asked.size_bytes:
        return f"All {human(asked.size_bytes)} were read into {road.image}.{rest}"
    rescued, whole = human(asked.rescued_bytes), human(asked.size_bytes)
    if not summary.finished:
        return f"{rescued} of {whole} ({share(asked)}) are read so far into {road.image}.{rest}"
    reasons = ", ".join(_reasons(asked, summary, road.options))
    return f"{rescued} of {whole} ({share(asked)}) were read into {road.image}. Not read: {reasons}.{rest}"


def _reasons(totals: Totals, summary: RescueSummary, options: RescueOptions) -> list[str]:
    """Return why what is missing was not read, each with its size."""
    reasons = []
    if totals.bad_bytes:
        areas = "1 bad area" if totals.bad_areas == 1 else f"{totals.bad_areas:,} bad areas"
        reasons.append(f"{human(totals.bad_bytes)} in {areas}, whose sectors failed one by one")
    if totals.non_scraped_bytes:
        why = "not scraped, as -n asks" if options.no_scrape else "not scraped: the drive hung there"
        reasons.append(f"{human(totals.non_scraped_bytes)} {why}")
    if totals.non_trimmed_bytes:
        why = "not trimmed, as -N asks" if options.no_trim else "not trimmed"
        reasons.append(f"{human(totals.non_trimmed_bytes)} {why}")
    if totals.non_tried_bytes:
        reasons.append(f"{human(totals.non_tried_bytes)} not tried ({_not_tried(summary, options)})")
    return reasons


def _not_tried(summary: RescueSummary, options: RescueOptions) -> str:
    reasons = []
    if len(options.copying_passes) < COPYING_PASSES:
        reasons.append("left to passes that --cpass leaves out")
    if summary.source_end_bytes is not None:
        reasons.append("behind the drive's end")
    return " or ".join(reasons) or "left for the next run"


def _next(summary: RescueSummary, road: Road) -> list[str]:
    """Return what to run next."""
    totals, options, steps = summary.asked or summary.totals, road.options, []
    if summary.limit:
        steps.append("the same command without that limit goes on")
    elif not summary.finished:  # the complaint that ends an interrupted run says how to go on
        so_far = totals.rescued_bytes and not road.carves
        return [f"`{road.carve_command}` works on what is read so far."] if so_far else []
    if totals.non_scraped_bytes and options.no_scrape:
        steps.append("the same command without -n scrapes what is left")
    if totals.non_trimmed_bytes and options.no_trim:
        steps.append("the same command without -N trims and scrapes what is left")
    if totals.non_tried_bytes and len(options.copying_passes) < COPYING_PASSES:
        steps.append("the same command without --cpass copies what is left")
    if totals.bad_bytes and summary.finished:
        steps.append(_retry(summary, options))
    if totals.rescued_bytes < totals.size_bytes and not road.carves:
        steps.append(f"`{shlex.join(['carver', 'map', '--picture', 'map.svg', str(road.map)])}` draws where it is")
    if totals.rescued_bytes and not road.carves:
        steps.append(f"`{road.carve_command}` brings back the model files in it")
    if not steps:
        return []
    return [f"Next: {'; '.join(steps)}."]


def _retry(summary: RescueSummary, options: RescueOptions) -> str:
    """Return what may still win bad sectors, behind what this very run has tried."""
    if not options.retry_passes:
        way = "-r 3" if options.reverse else "-r 3, then with -R -r 3 (from the other side)"
        return f"the same command with {way} tries the bad sectors again"
    if not options.reverse:
        return "the same command with -R -r 3 tries the bad sectors from the other side"
    if summary.rescued_bytes:
        return f"the same command tries the bad sectors again (this run won {human(summary.rescued_bytes)})"
    return (
        "retrying backwards won nothing; if retrying forwards (-r 3 without -R) did neither, what is left is another "
        "cable or adapter, a drive that has rested and is cooled, or a lab"
    )
