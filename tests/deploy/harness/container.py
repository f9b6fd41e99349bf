"""Becomes the program of a container: run by `unshare --mount`, as root, with a JSON file as argument.

The file has: root (an empty folder), files ({path: text}), volumes ({path: folder or file}), writable (paths),
program (the host's path, put at argv[0]), argv, env, uid, gid, no_new_privileges, drop_all.
The container sees the system's libraries, /proc, /dev, its files and volumes, and nothing else; all but the
writable volumes is read-only, as with readOnlyRootFilesystem.
"""

import ctypes
import json
import os
import pathlib
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
HIGHEST_CAPABILITY = 40


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def fill(spec):
    root = pathlib.Path(spec["root"])
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(root))

    def inside(path):
        return root / path.lstrip("/")

    for path in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
        # Debian's /lib is a link to usr/lib.
        if os.path.islink(path):
            inside(path).symlink_to(os.readlink(path))
        elif os.path.exists(path):
            inside(path).mkdir(parents=True)
            mount("--bind", path, str(inside(path)))
            mount("-o", "remount,bind,ro", str(inside(path)))
    for path, text in spec["files"].items():
        inside(path).parent.mkdir(parents=True, exist_ok=True)
        inside(path).write_text(text)
    program = inside(spec["argv"][0])
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch()
    mount("--bind", spec["program"], str(program))
    for path, folder in spec["volumes"].items():
        if os.path.isdir(folder):
            inside(path).mkdir(parents=True, exist_ok=True)
        else:
            inside(path).parent.mkdir(parents=True, exist_ok=True)
            inside(path).touch()
        mount("--bind", folder, str(inside(path)))
        if path not in spec["writable"]:
            mount("-o", "remount,bind,ro", str(inside(path)))
    for path in ("/proc", "/dev"):
        inside(path).mkdir()
        mount("--rbind", path, str(inside(path)))
    mount("-o", "remount,ro", str(root))
    return root


def give_up_rights(spec):
    libc = ctypes.CDLL(None, use_errno=True)
    if spec["drop_all"]:
        for capability in range(HIGHEST_CAPABILITY + 1):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([spec["gid"]])
    os.setgid(spec["gid"])
    os.setuid(spec["uid"])
    if spec["no_new_privileges"]:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main():
    spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
    root = fill(spec)
    os.chroot(root)
    os.chdir("/")
    give_up_rights(spec)
    os.execve(spec["argv"][0], spec["argv"], spec["env"])


main()
