"""Model words: sentences that say neither more nor less than is known."""

from __future__ import annotations

import pytest

from carver.identify.missing import missing_line
from carver.recovery import MissingFile
from carver.report.model_words import described, families_sentence, human_count, notes, telling
from signatures.verdict import Grade
from tests.carver.recoveries import example_model


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (999, "999"), (1000, "1.0 K"), (999_999, "999.9 K"), (7_241_732_096, "7.2 B"), (10**16, "10,000.0 T")],
)
def test_counts_are_never_rounded_up(number, said):
    assert human_count(number) == said


def test_a_model_is_described_by_what_is_known():
    told = example_model(family="", step=None, layers=12, uncounted=True)
    assert described(told) == "family unknown, more than 25.5 M parameters, 12 layers, float32"
    assert described(example_model(parameters=0, dtypes={}, step=None)).endswith("constants of a graph's nodes")


def test_notes_put_what_is_missing_first_and_say_what_is_a_guess():
    said = notes(example_model(shard_basis="layers", versions=("a", "b"), same_content=tuple("cdefg"), step=None))
    assert said[0].startswith("not there: ")
    assert said[1].endswith("a guess")
    assert said[2] == "the same tensors with other values: a, b; which is newer cannot be told"
    assert said[3] == "the same bytes again: c, d, e, f and 1 more"
    assert notes(example_model(missing_shards=()))[0] == "all 2 files are there"
    hit = example_model(missing_shards=(), files=("files/a", "damaged/b"))
    assert notes(hit)[0] == "all 2 files are there, 1 of them not whole"
    assert notes(example_model(missing_shards=(), shards=None, shard_basis="", versions=("a",))) == [
        "the same tensors with other values: a, by training step"
    ]


def test_a_damaged_model_is_told_where_whole_tensors_are():
    told = example_model(grade=Grade.DAMAGED, versions=("damaged/a.pt", "files/b.pt"))
    assert "what is damaged in it may be taken from a version that is whole: files/b.pt" in notes(told)
    assert not any("whole" in note for note in notes(example_model(versions=("files/b.pt",))))


def test_families_are_counted_and_the_unknown_are_said_to_be():
    models = [example_model(), example_model(family="BERT"), example_model(family="BERT"), example_model(family="")]
    assert families_sentence(models) == "4 models hold weights: 2 BERT, 1 ResNet-50, 1 of a family that is not known."
    assert families_sentence([example_model(family="")] * 19) == "19 models hold weights."
    assert families_sentence([]) == ""
    many = [example_model(family=f"F{n}") for n in range(11)]
    assert families_sentence(many).endswith("1 F7, 3 more families.") or "3 more families" in families_sentence(many)


def test_models_without_their_weights_do_not_hold_weights():
    bare = example_model(family="BERT", weights_missing=True)
    apart = "lacks its weights: they lie in files that were not found."
    assert families_sentence([example_model(), bare]) == f"1 model holds weights: 1 ResNet-50. 1 more {apart}"
    assert families_sentence([bare]) == f"1 model {apart}"
    assert families_sentence([bare] * 2).startswith("2 models lack their weights: ")


def test_known_families_and_shards_come_before_the_rest_and_the_larger_first():
    small, large, unknown = (
        example_model(parameters=1),
        example_model(parameters=9),
        example_model(family="", shard_basis="", parameters=99),
    )
    assert telling([unknown, small, large], 3) == [large, small, unknown]
    assert telling([unknown, small, large], 1) == [large]


def test_a_missing_file_is_told_by_what_is_known_of_it():
    named = MissingFile(name="m-2.bin", size_bytes=None, sha256=None, learnt_from=("i",))
    assert missing_line(named) == "m-2.bin"
    hashed = MissingFile(name="", size_bytes=2048, sha256="ab", learnt_from=("p",))
    assert missing_line(hashed) == "2.0 KiB, SHA-256 ab"
