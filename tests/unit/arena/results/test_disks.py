"""Network file systems, by what /proc/mounts says."""

from __future__ import annotations

from pathlib import Path

import pytest

from arena.results.disks import find_network_disk

MOUNTS = r"""
overlay / overlay rw 0 0
/dev/sda1 /home ext4 rw 0 0
server:/home /home/shared nfs4 rw 0 0
//server/share /mnt/a\040share cifs rw 0 0
me@server: /mnt/ssh fuse.sshfs rw 0 0
fuse-overlayfs /mnt/image fuse.fuse-overlayfs rw 0 0
drive /mnt/c 9p rw 0 0
server:/below /mnt/hidden nfs rw 0 0
/dev/sdb1 /mnt/hidden ext4 rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/results/r.sqlite", ""),
        ("/home/me/r.sqlite", ""),
        ("/home/shared/me/r.sqlite", "nfs4"),
        ("/home/shared2/r.sqlite", ""),
        ("/mnt/a share/r.sqlite", "cifs"),
        ("/mnt/ssh/r.sqlite", "fuse.sshfs"),
        ("/mnt/image/r.sqlite", ""),
        ("/mnt/c/r.sqlite", "9p"),
        ("/mnt/hidden/r.sqlite", ""),
    ],
)
def test_the_file_system_of_a_path(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert find_network_disk(Path(path), mounts) == kind


def test_a_system_without_a_list_of_mounts(tmp_path: Path) -> None:
    assert find_network_disk(tmp_path, tmp_path / "none") == ""
