import json

from hypothesis import given
from hypothesis import strategies as st

from carver.recovery import CarvedFile
from carver.verdict_json import carved_from_json, carved_to_json, verdict_from_json, verdict_to_json
from imaging.extent import Extent
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis, Verdict

offsets = st.integers(0, 2**63 - 1)
texts = st.text(max_size=20)
layouts = st.lists(st.builds(Extent, offset_bytes=offsets, size_bytes=offsets), max_size=3).map(tuple)
findings = st.builds(Finding, code=texts, offset_bytes=st.none() | offsets, detail=texts)
tensors = st.builds(
    Tensor,
    name=texts,
    dtype=texts,
    shape=st.lists(offsets, max_size=4).map(tuple),
    layout=layouts,
    grade=st.sampled_from([grade.value for grade in Grade]),
)
facts = st.dictionaries(texts, texts | st.integers() | st.booleans() | st.lists(texts, max_size=2), max_size=3)
common = {
    "grade": st.sampled_from(Grade),
    "size_bytes": offsets,
    "findings": st.lists(findings, max_size=2).map(tuple),
    "tensors": st.lists(tensors, max_size=2).map(tuple),
    "facts": facts,
    "data_evidence": st.sampled_from(DataEvidence),
}
verdicts = st.builds(Verdict, **common, explained=st.lists(offsets, max_size=3).map(tuple))
carved = st.builds(
    CarvedFile,
    **common,
    path=texts,
    format=texts,
    layout_basis=st.sampled_from(LayoutBasis),
    sha256=texts,
    layout=layouts,
    parent=st.none() | texts,
    name_source=texts,
    md5=st.none() | texts,
)


@given(verdicts)
def test_a_verdict_comes_back_as_it_was(verdict: Verdict) -> None:
    assert verdict_from_json(json.loads(json.dumps(verdict_to_json(verdict), allow_nan=False))) == verdict


@given(carved)
def test_a_recovered_file_comes_back_as_it_was(file: CarvedFile) -> None:
    assert carved_from_json(json.loads(json.dumps(carved_to_json(file), allow_nan=False))) == file
