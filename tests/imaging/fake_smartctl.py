"""A smartctl for tests: a program in a folder of its own, put first on PATH, that answers what it was told to."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

PROGRAM = """#!{python}
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "asked"), "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
with open(os.path.join(here, "answer.json")) as file:
    rules = json.load(file)
time.sleep(rules.get("sleep", 0))
word = next((word for word in sys.argv if word.startswith("scterc,")), None)
if word and rules["takes_erc"]:
    read, write = (int(part) for part in word.split(",")[1:])
    rules["document"]["ata_sct_erc"] = {{
        kind: {{"enabled": value > 0, "deciseconds": value}} for kind, value in (("read", read), ("write", write))
    }}
    with open(os.path.join(here, "answer.json"), "w") as file:
        json.dump(rules, file)
print(rules["text"] if rules["text"] is not None else json.dumps(rules["document"]))
sys.exit(rules["status"])
"""


class FakeSmartctl:
    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        self.folder = folder / "fake"
        self.folder.mkdir()
        program = self.folder / "smartctl"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.folder}{os.pathsep}{os.environ['PATH']}")
        self.answers({})

    def answers(
        self, document: Any, *, status: int = 0, text: str | None = None, takes_erc: bool = True, **rules: Any
    ) -> None:
        content = {"document": document, "status": status, "text": text, "takes_erc": takes_erc, **rules}
        temporary = self.folder / "answer.new"
        temporary.write_text(json.dumps(content))
        temporary.rename(self.folder / "answer.json")

    def asked(self) -> list[list[str]]:
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def attribute(number: int, value: int, text: str | None = None) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"Attribute_{number}",
        "value": 100,
        "worst": 100,
        "thresh": 10,
        "when_failed": "",
        "raw": {"value": value, "string": text if text is not None else str(value)},
    }


def ata(**changes: Any) -> dict[str, Any]:
    """An ATA disk in the shape that smartctl 7.3 prints."""
    return {
        "json_format_version": [1, 0],
        "smartctl": {"version": [7, 3], "argv": ["smartctl", "--json", "-x", "/dev/sdb"], "exit_status": 64},
        "device": {"name": "/dev/sdb", "info_name": "/dev/sdb [SAT]", "type": "sat", "protocol": "ATA"},
        "model_family": "Seagate Barracuda 3.5",
        "model_name": "ST2000DM008-2FR102",
        "serial_number": "ZFL0ABCD",
        "firmware_version": "0001",
        "user_capacity": {"blocks": 3907029168, "bytes": 2000398934016},
        "logical_block_size": 512,
        "physical_block_size": 4096,
        "rotation_rate": 7200,
        "smart_support": {"available": True, "enabled": True},
        "smart_status": {"passed": True},
        "ata_smart_attributes": {
            "revision": 10,
            "table": [
                attribute(1, 123456789),
                attribute(5, 0),
                attribute(9, 23456, "23456h+12m+03.123s"),
                attribute(187, 0),
                attribute(188, 4295032833, "1 1 1"),
                attribute(194, 2147483682, "34 (0 18 0 0 0)"),
                attribute(197, 0),
                attribute(198, 0),
            ],
        },
        "power_on_time": {"hours": 23456},
        "power_cycle_count": 812,
        "temperature": {"current": 34},
        "ata_sct_erc": {"read": {"enabled": False}, "write": {"enabled": False}},
        **changes,
    }


def nvme(**log: Any) -> dict[str, Any]:
    """An NVMe drive likewise."""
    return {
        "json_format_version": [1, 0],
        "smartctl": {"version": [7, 3], "argv": ["smartctl", "--json", "-x", "/dev/nvme0n1"], "exit_status": 0},
        "device": {"name": "/dev/nvme0n1", "info_name": "/dev/nvme0n1", "type": "nvme", "protocol": "NVMe"},
        "model_name": "Samsung SSD 980 PRO 1TB",
        "serial_number": "S5GXNX0R123456",
        "firmware_version": "5B2QGXA7",
        "nvme_total_capacity": 1000204886016,
        "user_capacity": {"blocks": 1953525168, "bytes": 1000204886016},
        "smart_status": {"passed": True, "nvme": {"value": 0}},
        "nvme_smart_health_information_log": {
            "critical_warning": 0,
            "temperature": 41,
            "available_spare": 100,
            "available_spare_threshold": 10,
            "percentage_used": 3,
            "data_units_read": 12345678,
            "media_errors": 0,
            "num_err_log_entries": 12,
            "power_on_hours": 4321,
            **log,
        },
        "temperature": {"current": 41},
        "power_on_time": {"hours": 4321},
    }


def refusing_bridge() -> dict[str, Any]:
    """A USB bridge that smartctl does not know."""
    return {
        "json_format_version": [1, 0],
        "smartctl": {
            "version": [7, 3],
            "argv": ["smartctl", "--json", "-x", "/dev/sdc"],
            "messages": [{"string": "/dev/sdc: Unknown USB bridge [0x152d:0x0578 (0x100)]", "severity": "error"}],
            "exit_status": 1,
        },
    }
