"""The backups of docs/operations.md can be restored."""

import shutil
import subprocess

import pytest

from harness import machine, tools
from harness.prometheus import Broker, Load
from harness.ports import wait_for

DISK_BYTES = 2 << 30


def doctor(folder):
    return subprocess.run([tools.ottla(), "doctor", folder], capture_output=True, text=True)


def records(broker):
    command = ["kcat", "-b", f"127.0.0.1:{broker.kafka}", "-C", "-t", "payments", "-o", "beginning", "-e", "-q"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def restore(source, folder):
    """A broker elsewhere, on a copy of a data folder that the doctor finds whole."""
    folder.mkdir()
    shutil.copytree(source, folder / "data")
    checked = doctor(folder / "data")
    assert checked.returncode == 0, checked.stdout
    broker = Broker(folder)
    broker.start()
    return broker


def test_copy_of_a_stopped_broker(tmp_path):
    (tmp_path / "first").mkdir()
    first = Broker(tmp_path / "first")
    first.start()
    try:
        first.kcat("-t", "payments", "-P", data="".join(f"payment {i}\n" for i in range(1000)))
        written = sorted(records(first))
    finally:
        first.stop()
    second = restore(tmp_path / "first" / "data", tmp_path / "second")
    try:
        assert sorted(records(second)) == written and len(written) == 1000
    finally:
        second.stop()


@pytest.mark.full
def test_atomic_snapshot_of_a_running_broker(tmp_path):
    """A file system that is frozen for as long as its image is copied: what a volume's snapshot holds."""
    assert machine.can(), "needs root, to mount"
    image, copy = tmp_path / "disk", tmp_path / "snapshot"
    mounts = [tmp_path / "live", tmp_path / "restored"]
    for folder in mounts:
        folder.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)

    def run(*words):
        subprocess.run([str(word) for word in words], check=True, capture_output=True)

    run("mkfs.ext4", "-q", "-F", image)
    run("mount", "-o", "loop", image, mounts[0])
    first, load = Broker(mounts[0]), None
    try:
        first.start()
        load = Load(first)
        load.start()
        wait_for("records", lambda: load.acknowledged >= 500)
        acknowledged = load.acknowledged
        run("fsfreeze", "--freeze", mounts[0])
        try:
            run("cp", "--sparse=always", image, copy)
        finally:
            run("fsfreeze", "--unfreeze", mounts[0])
    finally:
        if load:
            load.stop()
        first.stop()
        run("umount", "--lazy", mounts[0])
    run("mount", "-o", "loop", copy, mounts[1])
    try:
        second = restore(mounts[1] / "data", tmp_path / "second")
        try:
            assert len(records(second)) >= acknowledged
        finally:
            second.stop()
    finally:
        run("umount", "--lazy", mounts[1])
