"""The clients and what they need, installed once: see installs.py. Each is pinned by a file in this folder."""

import os
import pathlib
import shutil
import subprocess

import installs
from installs import InstallError

HERE = pathlib.Path(__file__).resolve().parent.parent


def _install(name, pins, fill, registry):
    """The folder of one install, pinned by the files `pins`."""
    return installs.install("clients", name, b"".join(path.read_bytes() for path in pins), fill, registry)


def need_programs(programs):
    """`programs`: {program: the Debian package that has it}."""
    missing = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    print(" ".join(command), flush=True)
    failed = os.geteuid() != 0 or subprocess.run(command, stdout=subprocess.DEVNULL).returncode
    if failed:
        raise InstallError(f"missing programs; as root: apt-get install {' '.join(missing)}")


def python():
    """A virtual environment with the Python clients; returns its interpreter."""
    requirements = HERE / "python" / "requirements.txt"

    def fill(folder, run):
        run("python3", "-m", "venv", str(folder))
        run(str(folder / "bin" / "pip"), "install", "--disable-pip-version-check", "--no-deps", "-r", str(requirements))

    need_programs({"python3": "python3-venv"})
    return _install("python", [requirements], fill, "PyPI") / "bin" / "python"


def jars():
    """A folder of Apache Kafka's jars: the Java client, the command-line tools and the broker."""
    pom = HERE / "java" / "pom.xml"

    def fill(folder, run):
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        run("mvn", "-q", "-B", "-Dstyle.color=never", "-f", str(pom), copy, f"-DoutputDirectory={folder}")

    need_programs({"mvn": "maven", "java": "openjdk-17-jdk-headless", "javac": "openjdk-17-jdk-headless"})
    return _install("jars", [pom], fill, "Maven Central")


def java_classes():
    """Our Java programs, compiled against the jars."""
    sources = sorted((HERE / "java").glob("*.java"))
    libraries = jars()

    def fill(folder, run):
        options = ["-Xlint:all,-path,-processing", "-Werror", "-cp", f"{libraries}/*", "-d", str(folder)]
        run("javac", *options, *map(str, sources))

    return _install("classes", sources, fill, "javac")


def node_modules():
    """A folder that holds package.json and node_modules."""
    pins = [HERE / "kafkajs" / name for name in ("package.json", "package-lock.json")]

    def fill(folder, run):
        for pin in pins:
            shutil.copy(pin, folder)
        run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")

    need_programs({"node": "nodejs", "npm": "npm"})
    return _install("kafkajs", pins, fill, "npm")


def sdist(requirement):
    """The unpacked source distribution of a pinned package, such as kafka-python==3.0.12."""
    interpreter = python()
    pin = HERE / "python" / "requirements.txt"
    name = requirement.split("==")[0]

    def fill(folder, run):
        options = ["--disable-pip-version-check", "--no-deps", "--no-binary", name]
        run(str(interpreter), "-m", "pip", "download", *options, requirement)
        (archive,) = folder.glob("*.tar.gz")
        run("tar", "xzf", str(archive), "--strip-components=1")

    return _install(f"sdist-{name}", [pin], fill, "PyPI")
