import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carver.identify.naming import MAX_NAME_BYTES, RESERVED, safe_name, stem_of, suffix_of


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bert-base_uncased.v2", "bert-base_uncased.v2"),
        ("..", ""),
        (".", ""),
        ("", ""),
        ("/etc/passwd", "etc_passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\x00b", "a_b"),
        ("a\nb\x1b[31m", "a_b__31m"),
        ("photo\u202egnp.exe", "photo_gnp.exe"),
        ("a\u200bb", "a_b"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("Con .txt", "_Con .txt"),
        ("LPT9", "_LPT9"),
        ("com¹", "_com¹"),
        ("console", "console"),
        ("name...", "name"),
        ("name. . ", "name"),
        ("-rf", "rf"),
        ("__0_0", "__0_0"),
        ("_private", "private"),
        ("__", ""),
        ("___x", "x"),
        (".hidden", "hidden"),
        ("~root", "root"),
        ("a:b*c?d", "a_b_c_d"),
        ("\N{ROBOT FACE}", ""),
        ("llama \N{LLAMA} 7b", "llama _ 7b"),
        ("模型", "模型"),
        ("модель-ё", "модель-ё"),
        ("e\u0301", "é"),
        ("\udc80", ""),
        ("x" * 300, "x" * MAX_NAME_BYTES),
        ("模" * 300, "模" * (MAX_NAME_BYTES // 3)),
    ],
)
def test_hostile_names_become_harmless(text: str, wanted: str) -> None:
    assert safe_name(text) == wanted


@given(st.text() | st.text(alphabet="./\\-_ \x00con:模é\u202e", max_size=400))
def test_no_name_can_leave_its_folder_or_fool_a_terminal(text: str) -> None:
    name = safe_name(text)
    assert not set(name) & set('/\\:*?"<>|\0')
    assert all(
        unicodedata.category(character) in ("Pc", "Pd", "Po", "Sm", "Zs") or character.isalnum() for character in name
    )
    assert len(name.encode()) <= MAX_NAME_BYTES + 1
    assert name == "" or (name[0] not in ".- " and name[-1] not in ". ")
    assert name.split(".")[0].strip().lower() not in RESERVED


@given(st.text())
def test_a_safe_name_stays_as_it_is(text: str) -> None:
    name = safe_name(text)
    assert name.startswith("_") or safe_name(name) == name


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({"name": "bert", "name_source": "zip root"}, ("bert", "zip root")),
        ({"name": "bert"}, ("bert", "contents")),
        ({"name": ".."}, ("onnx-0x200", "offset")),
        ({"name": 7}, ("onnx-0x200", "offset")),
        ({}, ("onnx-0x200", "offset")),
    ],
)
def test_the_stem_comes_from_the_contents_or_from_the_place(facts: dict[str, object], wanted: tuple[str, str]) -> None:
    assert stem_of(facts, "onnx", 512) == wanted


@pytest.mark.parametrize(
    ("suffix", "wanted"),
    [
        (".keras", ".keras"),
        (".tar.gz", ".tar.gz"),
        ("keras", ".h5"),
        (".a/b", ".h5"),
        (".", ".h5"),
        ("." + 16 * "x", ".h5"),
        (None, ".h5"),
    ],
)
def test_a_suffix_from_the_contents_is_taken_only_if_it_is_one(suffix: object, wanted: str) -> None:
    assert suffix_of({"suffix": suffix}, ".h5") == wanted
