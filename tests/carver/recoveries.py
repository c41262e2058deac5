"""A made-up Recovery with something of everything, hostile names among it."""

from carver.recovery import (
    CarvedFile,
    CaseMetadata,
    Companion,
    MissingFile,
    Model,
    Recovery,
    SourceRecord,
)
from imaging.extent import Extent
from signatures.tensors import Tensor
from signatures.verdict import DataEvidence, Finding, Grade, LayoutBasis

MIB = 1 << 20
HOSTILE = "<script>alert(1)</script>\n\u202egnp.exe\x1b[31m\u200b"


def runs(*pairs: tuple[int, int]) -> tuple[Extent, ...]:
    return tuple(Extent(offset_bytes=offset, size_bytes=size) for offset, size in pairs)


def tensor(name: str, *pairs: tuple[int, int], grade: str = "CONSISTENT", **more: object) -> Tensor:
    return Tensor(name=name, dtype="float32", shape=(64, 3, 7, 7), layout=runs(*pairs), grade=grade)


def carved(path: str, grade: Grade, layout: tuple[Extent, ...], **more: object) -> CarvedFile:
    values: dict[str, object] = {
        "format": "safetensors",
        "layout_basis": LayoutBasis.CONTIGUOUS,
        "data_evidence": DataEvidence.NONE,
        "size_bytes": sum(extent.size_bytes for extent in layout),
        "sha256": (path.encode().hex() + "0" * 64)[:64],
    }
    return CarvedFile(path=path, grade=grade, layout=layout, **{**values, **more})  # type: ignore[arg-type]


def example_files() -> tuple[CarvedFile, ...]:
    return (
        carved(
            "files/0000000100000_archive.pt",
            Grade.INTACT,
            runs((MIB, 8 * MIB)),
            format="pytorch_zip",
            layout_basis=LayoutBasis.PROVEN,
            data_evidence=DataEvidence.CHECKSUM,
            name_source="zip root",
            tensors=tuple(tensor(f"layer{n}.weight", (n * MIB, MIB), grade="INTACT") for n in range(6)),
            facts={"name": "archive", "versions": (3,), "odd": float("nan")},
            md5="d41d8cd98f00b204e9800998ecf8427e",
        ),
        carved(
            "files/0000000140000_inner.h5",
            Grade.CONSISTENT,
            runs((5 * MIB, MIB)),
            format="hdf5",
            parent="files/0000000100000_archive.pt",
        ),
        carved(
            "files/0000000a00000.safetensors",
            Grade.CONSISTENT,
            runs((10 * MIB, 3 * MIB)),
            tensors=(tensor("w", (80, 99)),),
        ),
        carved(
            "files/0000001000000_model.h5",
            Grade.DAMAGED,
            runs((16 * MIB, 4 * MIB), (30 * MIB, 2 * MIB)),
            format="hdf5",
            layout_basis=LayoutBasis.MAPPED,
            data_evidence=DataEvidence.PLAUSIBLE,
            name_source="file name attribute",
            findings=(
                Finding(code="unread", offset_bytes=2 * MIB, detail="8,192 bytes were never read from the drive"),
                Finding(code="crc-mismatch", offset_bytes=None, detail=f"member {HOSTILE} disagrees"),
            ),
            tensors=(
                tensor("dense/kernel", (4096, MIB)),
                tensor(
                    "conv2d_1/chunked", (2 * MIB, 65536), (3 * MIB, 65536), (MIB, 4096), (5 * MIB, 10), grade="DAMAGED"
                ),
                tensor(HOSTILE, (2 * MIB, 512), grade="DAMAGED"),
                tensor("fill/only"),
            ),
        ),
        carved(
            f"files/{HOSTILE}.onnx",
            Grade.TRUNCATED,
            runs((40 * MIB, 3 * MIB)),
            format="onnx",
            size_bytes=9 * MIB,
            findings=(Finding(code="cut-short", offset_bytes=3 * MIB, detail="the file should be 9 MiB long"),),
            tensors=(tensor("graph/" + "very_long_scope/" * 40 + "weight", (2 * MIB, 4 * MIB), grade="TRUNCATED"),),
        ),
        carved(
            "files/0000003000000.pt",
            Grade.UNDECIDED,
            runs((48 * MIB, MIB)),
            format="pytorch_zip",
            findings=(
                Finding(code="budget", detail="the candidate asks for more reads than a file of its kind needs"),
            ),
        ),
    )


def example_model(**changes: object) -> Model:
    values: dict[str, object] = {
        "name": HOSTILE,
        "name_source": "zip root",
        "family": "ResNet-50",
        "family_source": "tensor names",
        "parameters": 25_557_032,
        "uncounted": False,
        "dtypes": {"float32": 25_557_032},
        "layers": 0,
        "hidden_size": None,
        "vocabulary": None,
        "step": 500,
        "step_source": "zip root",
        "files": ("files/0000000100000_archive.pt",),
        "grade": Grade.INTACT,
        "shards": 2,
        "shard_basis": "index file",
        "missing_shards": (f"{HOSTILE}-00002-of-00002.bin",),
        "companions": (Companion(path="files/config.json", why="place"),),
    }
    return Model(**{**values, **changes})  # type: ignore[arg-type]


def example(**changes: object) -> Recovery:
    values: dict[str, object] = {
        "tool": {"name": "carver", "version": "0.1.0", "numpy": "2.3.1", "python": "3.11.9"},
        "run": {
            "command": "carver rescue /dev/sdb case",
            "host": "lab-3",
            "system": "Linux 6.12",
            "started": "2026-11-22T09:14:03Z",
            "ended": "2026-11-22T11:52:40Z",
        },
        "case": CaseMetadata(
            case="2026-0417",
            evidence="E-3, WD Blue 1 TB, one head noisy",
            examiner="R. Okafor",
            organisation="Data Recovery Laboratory, Institute for Applied Machine Learning",
            notes="Received sealed on 20 November.\nThe client needs the newest checkpoint first.",
        ),
        "source": SourceRecord(
            locator="/dev/sdb",
            size_bytes=64 * MIB,
            identity={
                "model": "WDC WD10EZEX",
                "serial": "WD-WCC3F0<7",
                "samples": [[n << 20, "ab" * 32] for n in range(17)],
            },
            unread=((18 * MIB, 8192, "-"), (24 * MIB, MIB, "*"), (25 * MIB, 512, "/"), (60 * MIB, 4 * MIB, "?")),
        ),
        "files": example_files(),
        "side_files": (
            carved(
                "files/config.json",
                Grade.CONSISTENT,
                runs((9 * MIB, 600)),
                format="model_json",
                side=True,
                facts={"kind": "config.json"},
            ),
        ),
        "models": (example_model(),),
        "missing": (
            MissingFile(
                name="",
                size_bytes=7 * MIB,
                sha256="ab" * 32,
                learnt_from=("files/a.pointer", "files/b.pointer"),
                same_size=("files/0000000a00000.safetensors",),
            ),
            MissingFile(name=HOSTILE, size_bytes=None, sha256=None, learnt_from=("files/x.index.json",)),
        ),
        "rejected": {"header-length": 1204, "eocd-missing": 17, "name-<b>": 1},
    }
    return Recovery(**{**values, **changes})  # type: ignore[arg-type]
