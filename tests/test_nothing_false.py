"""Nothing false: no file is called good that its own library refuses. Long runs; `tests.false_alarms` does the work.

`CARVER_RANDOM_GIB=200` says how much random and adversarial bytes, `CARVER_SOFTWARE=FOLDER:FOLDER` which real files.
"""

import os
from pathlib import Path

import pytest

from tests import false_alarms
from tests.oracle import refusal


def test_the_oracle_refuses_what_is_damaged_and_accepts_what_is_not(tmp_path):
    from fixtures.formats import npz, safetensors

    for name, module in (("npz", npz), ("safetensors", safetensors)):
        sample = next(iter(module.samples(1)))
        path = tmp_path / "whole"
        path.write_bytes(sample.content)
        assert refusal(name, path) == ""
        half = len(sample.content) // 2
        path.write_bytes(sample.content[:half] + bytes(9) + sample.content[half + 9 :])
        assert name == "safetensors" or refusal(name, path)
        path.write_bytes(sample.content[:-5])
        assert refusal(name, path)


def test_a_little_of_random_and_adversarial_bytes_gives_nothing_false(monkeypatch):
    monkeypatch.setattr(false_alarms, "BLOCK_BYTES", 8 << 20)
    monkeypatch.setattr(false_alarms, "TRAPS_PER_MIB", 40)
    told = false_alarms.run(false_alarms.random_blocks(4 * (8 << 20) / (1 << 30)))
    assert told["false"] == []
    assert told["bytes"] == 32 << 20
    assert told["counts"]["candidates"] > 100


@pytest.mark.long
@pytest.mark.timeout(0)
def test_gibibytes_of_random_and_adversarial_bytes_give_nothing_false():
    told = false_alarms.run(false_alarms.random_blocks(float(os.environ.get("CARVER_RANDOM_GIB", "200"))))
    print(told)
    assert told["false"] == []


@pytest.mark.long
@pytest.mark.timeout(0)
def test_real_software_gives_nothing_that_its_library_refuses():
    folders = [Path(name) for name in os.environ.get("CARVER_SOFTWARE", "/usr:/opt").split(":")]
    told = false_alarms.run(false_alarms.software(folders))
    print(told)
    assert told["false"] == []
