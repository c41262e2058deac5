from pathlib import Path

import pytest

from imaging import block_stack


def machine(folder: Path, backing: str) -> tuple[Path, Path]:
    """Lay out a /sys with one loop device, and a /proc with a root and a file system that does not answer."""
    sys_root, proc_root = folder / "sys", folder / "proc"
    loop = sys_root / "block" / "loop7"
    (loop / "loop").mkdir(parents=True)
    (loop / "loop" / "backing_file").write_text(f"{backing}\n")
    (loop / "dev").write_text("7:7\n")
    (proc_root / "self").mkdir(parents=True)
    mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:99 / /mnt/dead rw - fuse dead rw\n"
    (proc_root / "self" / "mountinfo").write_text(mounts)
    return sys_root, proc_root


def test_a_loop_device_on_the_file_is_found(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    drive.write_bytes(b"")
    sys_root, proc_root = machine(tmp_path, str(drive))
    assert block_stack.loops_on(drive, sys_root=sys_root, proc_root=proc_root) == ("7:7",)


def test_a_file_on_another_file_system_is_not_even_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = tmp_path / "drive"
    drive.write_bytes(b"")
    sys_root, proc_root = machine(tmp_path, "/mnt/dead/disk")
    looked: list[object] = []
    monkeypatch.setattr(block_stack, "_same_file", lambda one, other: looked.append(one))
    assert block_stack.loops_on(drive, sys_root=sys_root, proc_root=proc_root) == ()
    assert looked == []
