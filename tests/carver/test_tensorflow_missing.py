"""Data files of TensorFlow checkpoints that an index tells of and that were not found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carver.identify.missing import missing_files
from fixtures.formats.tf_checkpoint_data import MODEL, build
from signatures import formats
from signatures.verdict import Grade
from tests.carver.made_models import a_file
from tests.signatures.zip_window import judge

DATA, INDEX = build(4, MODEL, shards=2)


def index(path="files/a.index"):
    return a_file(path, form="tf_checkpoint_index", facts=judge(formats()["tf_checkpoint_index"], INDEX).facts)


def data(number, grade=Grade.INTACT, *, size_bytes=None):
    facts = judge(formats()["tf_checkpoint_data"], DATA[number] + INDEX).facts
    made = a_file(f"files/{number}", form="tf_checkpoint_data", facts=facts, grade=grade)
    return replace(made, size_bytes=len(DATA[number]) if size_bytes is None else size_bytes)


def test_what_is_there_is_not_missing_and_what_is_not_is_told_by_name_and_length():
    assert missing_files([index(), data(0), data(1)], []) == ()
    (lost,) = missing_files([index(), data(1), index("files/copy.index")], [])
    assert lost.name.startswith("checkpoint-") and lost.name.endswith(".data-00000-of-00002")
    assert (lost.size_bytes, lost.learnt_from) == (len(DATA[0]), ("files/a.index", "files/copy.index"))


@pytest.mark.parametrize(("grade", "missing"), [(Grade.INTACT, 1), (Grade.TRUNCATED, 0)])
def test_a_file_of_another_length_is_another_checkpoints_unless_it_is_cut(grade, missing):
    assert len(missing_files([index(), data(0), data(1, grade, size_bytes=9)], [])) == missing
