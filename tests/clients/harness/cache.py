"""Installs the clients into a cache folder, from the ordinary registries, once.

Each install is pinned by a file in this folder (requirements.txt, package-lock.json, pom.xml) and is
done again when that file changes: the folder's name carries a digest of it. A folder takes its final
name only when complete, so that an interrupted install is never mistaken for a whole one.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
INSTALL_TIMEOUT_S = 600


class InstallError(Exception):
    """Something needed could not be had; the text is one line for the user."""


def root():
    base = os.environ.get("OTTLA_TEST_CACHE") or pathlib.Path.home() / ".cache" / "ottla"
    return pathlib.Path(base) / "clients"


def _install(name, pins, fill, registry):
    """The folder of one install; `fill(folder, run)` makes it if it is not there."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in pins)).hexdigest()[:12]
    folder = root() / f"{name}-{digest}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = root() / f"{name}-install.log"

    def run(*command, cwd=folder):
        with log.open("ab") as out:
            subprocess.run(
                command, cwd=cwd, stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=True, timeout=INSTALL_TIMEOUT_S
            )

    log.unlink(missing_ok=True)
    print(f"installing {name} from {registry} into {folder}", flush=True)
    try:
        fill(folder, run)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(f"cannot install {name} from {registry}: {error} (see {log})") from error
    (folder / "complete").touch()
    return folder


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
