"""Recognises network file systems, on which the locks of SQLite and of claims are not reliable."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: Types of network file systems in /proc/mounts.
_NETWORK = frozenset(
    (
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
        "smb3", "smbfs",
    )
)  # fmt: skip
#: File systems in user space that keep their files on a local disk.
_LOCAL_FUSE = frozenset(
    (
        "fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.ext2", "fuse.fuse-overlayfs",
        "fuse.gocryptfs", "fuse.mergerfs", "fuse.ntfs-3g",
    )
)  # fmt: skip
_MOUNTS = Path("/proc/mounts")


def find_network_disk(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the type of the network file system that holds a path; "" for a local disk.

    Also "" where the system does not list its mounts in this file, as on macOS.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    # Unlike Path.resolve, this is no error for links in a circle; opening them is one.
    path = Path(os.path.realpath(path))
    kind = ""
    longest = -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        folder = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        # Of two file systems on one folder, the later one hides the earlier one.
        if path.is_relative_to(folder) and len(folder.parts) >= longest:
            longest, kind = len(folder.parts), fields[2]
    remote = kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
    return kind if remote else ""
