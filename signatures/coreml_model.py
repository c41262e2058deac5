"""Core ML model (.mlmodel, and model.mlmodel of a package): a protobuf without magic, length or checksum.

It begins with the specification's version and the description, and ends with the field that says which kind of model
it is: that field's length is the file's end. Field numbers: coremltools' Model.proto.
"""

from __future__ import annotations

from imaging.window import Window
from signatures._coreml_layers import LayerWalk
from signatures._protobuf import LENGTH, VARINT, CutShortError, MalformedError, Wire
from signatures.format import Format, SectorProbe
from signatures.verdict import Finding, Grade, Verdict, rejected

VERSION, DESCRIPTION, IS_UPDATABLE = 1, 2, 10
METADATA = 100
FEATURES = {1: "inputs", 10: "outputs", 13: "states", 50: "training_inputs"}
MAX_VERSION = 12
MAX_FILE_BYTES = 1 << 31  # protobuf's own limit
MAX_TEXT_BYTES = 1 << 20
MAX_FEATURES = 256  # kept as facts
MAX_BLOBS = 5000
KINDS = {
    200: "pipelineClassifier", 201: "pipelineRegressor", 202: "pipeline", 300: "glmRegressor",
    301: "supportVectorRegressor", 302: "treeEnsembleRegressor", 303: "neuralNetworkRegressor",
    304: "bayesianProbitRegressor", 400: "glmClassifier", 401: "supportVectorClassifier",
    402: "treeEnsembleClassifier", 403: "neuralNetworkClassifier", 404: "kNearestNeighborsClassifier",
    500: "neuralNetwork", 501: "itemSimilarityRecommender", 502: "mlProgram", 555: "customModel", 556: "linkedModel",
    560: "classConfidenceThresholding", 600: "oneHotEncoder", 601: "imputer", 602: "featureVectorizer",
    603: "dictVectorizer", 604: "scaler", 606: "categoricalMapping", 607: "normalizer", 609: "arrayFeatureExtractor",
    610: "nonMaximumSuppression", 900: "identity", 2000: "textClassifier", 2001: "wordTagger",
    2002: "visionFeaturePrint", 2003: "soundAnalysisPreprocessing", 2004: "gazetteer", 2005: "wordEmbedding",
    2006: "audioFeaturePrint", 3000: "serializedModel",
}  # fmt: skip
NETWORKS, PROGRAM = (303, 403, 500), 502
METADATA_TEXTS = {1: "short_description", 2: "version", 3: "author", 4: "license"}
_CONTINUED, _SHORT = bytes(range(0x80, 0x100)), bytes(range(1, 0x80))
_LENGTHS = {1: (_SHORT,), 2: (_CONTINUED, _SHORT), 3: (_CONTINUED, _CONTINUED, _SHORT)}


class _Model:
    """What was read, as far as it went."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.version = 0
        self.kind = 0
        self.end = 0
        self.cut = False
        self.features: dict[str, list[str]] = {}
        self.texts: dict[str, str] = {}
        self.user_defined: dict[str, str] = {}
        self.walk = LayerWalk(wire)

    def read_head(self) -> tuple[int, int]:
        """Read up to the field that tells the kind of model; return where its body is.

        Raises:
            MalformedError: it is no such model.
        """
        last = 0
        for number, wire, value, body, stop in self.wire.fields(0, MAX_FILE_BYTES):
            if number <= last or (last == 0) != (number == VERSION):
                raise MalformedError("field-order", body)
            last = number
            if number == VERSION and wire == VARINT and 0 < value <= MAX_VERSION:
                self.version = value
            elif number == DESCRIPTION and wire == LENGTH:
                self._description(body, stop)
            elif number in KINDS and wire == LENGTH and self.features:
                self.kind, self.end = number, stop
                return body, stop
            elif number != IS_UPDATABLE or wire != VARINT:
                raise MalformedError("field", body)
        raise MalformedError("length", MAX_FILE_BYTES)

    def read_kind(self, body: int, stop: int) -> None:
        """Walk what the kind of model holds.

        Raises:
            MalformedError: it breaks the grammar.
        """
        if self.kind in NETWORKS:
            self.walk.network(body, stop)
        elif self.kind == PROGRAM:
            self.walk.program(body, stop)
        else:
            for _ in self.wire.fields(body, stop):
                pass

    def _description(self, start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number in FEATURES and wire == LENGTH:
                names = self.features.setdefault(FEATURES[number], [])
                name = self._feature(body, stop)
                if len(names) < MAX_FEATURES:
                    names.append(name)
            elif number == METADATA and wire == LENGTH:
                self._metadata(body, stop)

    def _feature(self, start: int, end: int) -> str:
        """Return a feature's name, which every feature has."""
        name = ""
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if number > 3 and number != 1000:
                raise MalformedError("feature", body)
            if number == 1 and wire == LENGTH:
                name = self.wire.text(body, stop, limit_bytes=4096)
        if not name:
            raise MalformedError("feature", start)
        return name

    def _metadata(self, start: int, end: int) -> None:
        for number, wire, _, body, stop in self.wire.fields(start, end):
            if wire != LENGTH:
                raise MalformedError("metadata", body)
            if number in METADATA_TEXTS:
                self.texts[METADATA_TEXTS[number]] = self.wire.text(body, stop, limit_bytes=MAX_TEXT_BYTES)[:500]
            elif number == 100 and len(self.user_defined) < 64:
                pair = {1: "", 2: ""}
                for part, _, _, at, to in self.wire.fields(body, stop):
                    pair[part] = self.wire.text(at, to, limit_bytes=MAX_TEXT_BYTES)[:500]
                self.user_defined[pair[1]] = pair[2]


def validate(window: Window) -> Verdict:
    """Judge a model that would begin at the window's start.

    Raises:
        BudgetExceeded, ReadFault: from the window.
    """
    model = _Model(Wire(window))
    try:
        body, stop = model.read_head()
    except MalformedError as fault:
        return rejected(fault.code, at_bytes=fault.at_bytes)
    findings: list[Finding] = []
    try:
        model.read_kind(body, stop)
    except CutShortError:
        pass  # told below
    except MalformedError as fault:
        if stop <= window.size_bytes:
            detail = f"the {KINDS[model.kind]} breaks the grammar here"
            findings.append(Finding(code=fault.code, offset_bytes=fault.at_bytes, detail=detail))
    grade = Grade.DAMAGED if findings else Grade.CONSISTENT
    if stop > window.size_bytes:
        grade = Grade.TRUNCATED
        detail = f"{stop - window.size_bytes} bytes are missing at the end"
        findings.append(Finding(code="cut-short", offset_bytes=window.size_bytes, detail=detail))
    if model.walk.blobs:
        detail = f"{len(model.walk.blobs)} tensors are kept in other files: {', '.join(_blob_files(model))[:200]}"
        findings.append(Finding(code="external-data", detail=detail))
    return Verdict(
        grade=grade,
        size_bytes=stop,
        findings=tuple(findings),
        tensors=tuple(model.walk.tensors),
        facts=_facts(model),
    )


def _blob_files(model: _Model) -> dict[str, int]:
    """Return, for each file that holds tensors, the last record's offset in bytes."""
    files: dict[str, int] = {}
    for _, file, offset_bytes in model.walk.blobs:
        files[file] = max(files.get(file, 0), offset_bytes)
    return files


def _facts(model: _Model) -> dict[str, object]:
    facts: dict[str, object] = {
        "specification_version": model.version,
        "kind": KINDS[model.kind],
        "operations": model.walk.operations,
        **model.features,
        **{key: text for key, text in model.texts.items() if text},
    }
    if model.user_defined:
        facts["metadata"] = model.user_defined
    if model.walk.blobs:
        keys = ("name", "file", "offset_bytes")
        facts["blobs"] = [dict(zip(keys, blob, strict=True)) for blob in model.walk.blobs[:MAX_BLOBS]]
        facts["blob_files"] = _blob_files(model)
    return facts


def _probe(description: int, feature: int) -> SectorProbe:
    """Return the probe for descriptions and first features whose lengths take so many bytes."""
    allowed = (b"\x08", bytes(range(1, MAX_VERSION + 1)), b"\x12", *_LENGTHS[description], b"\x0a")
    return SectorProbe(
        allowed=(*allowed, *_LENGTHS[feature], b"\x0a", _SHORT), name=f"description-{description}-feature-{feature}"
    )


FORMAT = Format(
    name="coreml_model",
    suffix=".mlmodel",
    title="Core ML model",
    patterns=(),
    probes=tuple(_probe(description, feature) for description in _LENGTHS for feature in (1, 2)),
    validate=validate,
    proves="nothing: there are no checksums; the grammar is checked down to every weight",
)
