"""Cut short: an image that loses its end under a run, of which the next run must trust nothing.

Whatever is looked at then seems to be missing or broken, and where the image is put back whole, nothing else tells:
its length, and what is sampled of it, are those of before. So it is kept in the case that this happened, before
anything is logged that was seen meanwhile, and the keys of the next run's logs are others.
"""

from __future__ import annotations

from carver.case import Case
from imaging.image import MappedImage


def note_if_cut_short(case: Case, image: MappedImage) -> None:
    """Keep that the image is shorter than it was when it was opened, if so; to be called before a stage logs.

    Raises:
        OutputError: the case folder cannot be written.
    """
    if image.source.present_bytes() < image.source.size_bytes:
        case.note_cut_short()
