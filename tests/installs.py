"""Installs what tests need into a cache folder, from the ordinary registries, once.

Each install is pinned by some bytes (mostly of a file: requirements.txt, package-lock.json, pom.xml) and is done
again when they change: the folder's name carries a digest of them. What was interrupted is begun anew.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

TIMEOUT_S = 600


class InstallError(Exception):
    """Something needed could not be had; the text is one line for the user."""


def root(area):
    base = os.environ.get("OTTLA_TEST_CACHE") or pathlib.Path.home() / ".cache" / "ottla"
    return pathlib.Path(base) / area


def install(area, name, pin, fill, registry):
    """The folder of one install; `fill(folder, run)` makes it if it is not there as a whole."""
    folder = root(area) / f"{name}-{hashlib.sha256(pin).hexdigest()[:12]}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = root(area) / f"{name}-install.log"

    def run(*command, cwd=folder):
        with log.open("ab") as out:
            subprocess.run(command, cwd=cwd, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=True, timeout=TIMEOUT_S)

    log.unlink(missing_ok=True)
    print(f"installing {name} from {registry} into {folder}", flush=True)
    try:
        fill(folder, run)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InstallError(f"cannot install {name} from {registry}: {error} (see {log})") from error
    (folder / "complete").touch()
    return folder
