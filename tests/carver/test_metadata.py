import errno
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carver.metadata import KEYS, load, merge, write_template
from carver.recovery import CaseMetadata
from imaging.errors import DestinationFullError, InputError, OutputError

texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(KEYS, texts)))
def test_what_is_written_is_read_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("case") / "case.toml"
    assert write_template(path, CaseMetadata(**values))
    assert load(path) == CaseMetadata(**values)


def test_an_empty_template_reads_as_nothing_and_explains_itself(tmp_path):
    path = tmp_path / "case.toml"
    write_template(path, CaseMetadata())
    assert load(path) == CaseMetadata()
    assert "# Who does the examination" in path.read_text()


def test_a_template_never_overwrites(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text('case = "mine"\n')
    assert not write_template(path, CaseMetadata(case="other"))
    assert load(path).case == "mine"


def test_a_template_that_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError):
        write_template(tmp_path / "none" / "case.toml", CaseMetadata())


def test_a_template_that_found_no_room_leaves_no_half_of_it_to_be_read(tmp_path, monkeypatch):
    path = tmp_path / "case.toml"

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DestinationFullError, match="run the same command again"):
        write_template(path, CaseMetadata(case="mine"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert write_template(path, CaseMetadata(case="mine"))


def test_a_name_that_is_no_text_is_written_with_a_replacement(tmp_path):
    path = tmp_path / "case.toml"
    write_template(path, CaseMetadata(examiner="R.\udc80"))
    assert load(path).examiner == "R.?"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'examinator = "x"\n', "unknown key 'examinator'; expected are case, evidence"),
        (b"case = 17\n", "case must be text in quotes"),
        (b"case = no quotes\n", "is no valid TOML"),
        (b"case = '\xff'\n", "is not UTF-8"),
        (b"#" * (1 << 21), "over 1 MiB"),
        (b"case = " + b"[" * 100_000, "is no valid TOML"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_expected(tmp_path, content, said):
    path = tmp_path / "case.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as told:
        load(path)
    assert str(path) in str(told.value)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "case.toml")


def test_a_byte_order_mark_is_no_trouble(tmp_path):
    path = tmp_path / "case.toml"
    path.write_bytes('\ufeffcase = "7"\r\n'.encode())
    assert load(path).case == "7"


def test_options_that_were_given_win():
    merged = merge(CaseMetadata(case="1", examiner="A"), case="2", examiner=None, notes="")
    assert merged == CaseMetadata(case="2", examiner="A")
    with pytest.raises(TypeError):
        merge(merged, lab=mock.sentinel.any)
