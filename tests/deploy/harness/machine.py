"""A throw-away copy of this machine: an overlay over its root file system, gone when the script ends."""

import os
import pathlib
import subprocess
import tempfile

SETUP = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mkdir -p "$1/root/mnt/given"
mount --bind "$2" "$1/root/mnt/given"
mount -o remount,bind,ro "$1/root/mnt/given"
ip link set lo up
exec chroot "$1/root" /bin/bash -euo pipefail -c "$3"
"""


def can():
    """Whether this process may make such copies."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        return run(":", pathlib.Path(folder)).returncode == 0


def run(script, given, timeout_s=120):
    """Runs a bash script on the copy, without network; `given` is a folder seen as /mnt/given."""
    with tempfile.TemporaryDirectory(prefix="ottla-machine-") as folder:
        command = ["unshare", "--mount", "--net", "sh", "-c", SETUP, "sh", folder, str(given), script]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s
        )
