"""Docker image, compose file, systemd unit and Debian package."""

import http.server
import os
import re
import shutil
import subprocess
import threading
import tomllib

import pytest
import yaml

from harness import chart, machine, tools
from harness.ports import free_ports, wait_for
from harness.prometheus import Broker

DEPLOY = tools.ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "ottla.service"
HEALTHCHECK = DEPLOY / "docker" / "healthcheck"
# In tenths: systemd calls up to 2 "OK", and a plain service 9.6.
EXPOSURE_MAX = 20


def instructions():
    """The Dockerfile as [(instruction, text)], with continued lines joined."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def stages():
    """One list of instructions per FROM."""
    found = []
    for word, text in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, text))
    return found


def of(stage, word):
    return [text for found, text in stage if found == word]


def test_dockerfile_has_known_instructions():
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in instructions()} <= known
    build, final = stages()
    assert of(build, "FROM") == ["rust:1.91-bookworm AS build"]
    for text in of(final, "COPY"):
        source, target = [word for word in text.split() if not word.startswith("--")]
        assert "--from=build" in text or (tools.ROOT / source).is_file(), source
        assert target.startswith("/")


def test_image_is_built_with_the_lock_file_and_the_right_compiler():
    build, _ = stages()
    wanted = tomllib.loads((tools.ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    assert of(build, "FROM")[0].startswith(f"rust:{wanted}-")
    assert any("cargo build --locked --release --workspace" in text for text in of(build, "RUN"))


def test_image_runs_as_the_charts_user():
    _, final = stages()
    pod = chart.render()["StatefulSet", "ottla"]["spec"]["template"]["spec"]
    assert of(final, "USER") == [f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"]
    assert of(final, "ENTRYPOINT") == [f'["{chart.container(chart.render())["command"][0]}"]']
    (volume,) = of(final, "VOLUME")
    assert volume in {mount["mountPath"] for mount in chart.container(chart.render())["volumeMounts"]}


def test_image_has_the_libraries_of_the_binary():
    """debian:bookworm-slim has libc and libgcc; all else must be installed."""
    packages = {"libstdc++": "libstdc++6", "libssl": "libssl3", "libcrypto": "libssl3", "libz": "zlib1g"}
    linked = subprocess.run(["ldd", tools.ottla()], check=True, capture_output=True, text=True).stdout
    names = {line.split()[0].split("/")[-1].split(".so")[0] for line in linked.splitlines()}
    installed = of(stages()[1], "RUN")[0]
    others = names - {"linux-vdso", "ld-linux-x86-64", "libc", "libm", "libgcc_s", "libpthread", "libdl", "librt"}
    assert "libstdc++" in others
    for name in others:
        assert packages[name] in installed.split(), name


@pytest.mark.skipif(not machine.can(), reason="needs root and overlay file systems")
def test_steps_of_the_image_run(tmp_path):
    """The last stage's RUN, without apt (no network here), on a copy of this machine."""
    steps = [step.strip() for step in of(stages()[1], "RUN")[0].split("&&")]
    script = " && ".join(step for step in steps if "apt" not in step)
    done = machine.run(f"{script} && stat -c '%u:%g %a' /var/lib/ottla && id -u ottla", tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.split() == ["10001:10001", "750", "10001"]


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert self.path == "/health/ready"
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("status, healthy", [(200, True), (503, False)])
def test_healthcheck(status, healthy):
    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.status = status
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = subprocess.run([HEALTHCHECK, str(server.server_port)], capture_output=True, timeout=30)
        thread.join()
    assert (done.returncode == 0) == healthy


def test_healthcheck_of_nobody_and_of_ottla(tmp_path):
    (port,) = free_ports(1)
    assert subprocess.run([HEALTHCHECK, str(port)], capture_output=True).returncode
    broker = Broker(tmp_path)
    try:
        broker.start()
        subprocess.run([HEALTHCHECK, str(broker.metrics)], check=True)
    finally:
        broker.stop()


def start_with(file, environment, tmp_path):
    """Starts `ottla server` with a file of deploy/ on other ports; returns (advertised addresses, its log)."""
    external, other, metrics = free_ports(3)
    environment = {key: str(value) for key, value in environment.items()}
    if "KAFKA_LISTENERS" in environment:
        environment["KAFKA_LISTENERS"] = f"PLAINTEXT://127.0.0.1:{external},DOCKER://127.0.0.1:{other}"
    else:
        environment["KAFKA_LISTENERS"] = f"PLAINTEXT://127.0.0.1:{external}"
    environment |= {"KAFKA_LOG_DIRS": str(tmp_path / "data"), "KAFKA_OTTLA_METRICS_LISTENER": f"127.0.0.1:{metrics}"}
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([tools.ottla(), "server", file], env=environment, stdout=out, stderr=out)
    try:
        wait_for("the screen of a start", lambda: process.poll() is not None or "metrics  http" in log.read_text())
        text = log.read_text()
        assert process.poll() is None, text
        return re.search(r"clients +(.*)", text)[1].split(", "), text
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_the_images_configuration(tmp_path):
    advertised, _ = start_with(DEPLOY / "docker" / "server.properties", {}, tmp_path)
    assert advertised == ["localhost:9092"]


def test_the_packages_configuration(tmp_path):
    file = DEPLOY / "debian" / "server.properties"
    assert "\nlisteners=PLAINTEXT://127.0.0.1:9092\n" in file.read_text(), "nobody from outside, unless asked for"
    start_with(file, {}, tmp_path)


def test_compose(tmp_path):
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert [name for name, service in services.items() if "profiles" not in service] == ["ottla"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(compose["volumes"])
    build = services["ottla"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    advertised, log = start_with(DEPLOY / "docker" / "server.properties", services["ottla"]["environment"], tmp_path)
    assert advertised == ["localhost:9092", "ottla:19092"], log


def test_unit_is_right_and_hardened(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.fail("systemd-analyze is missing: apt-get install systemd")
    here = tmp_path / "ottla.service"
    here.write_text(UNIT.read_text().replace("/usr/bin/ottla", str(tools.ottla())))
    done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    limit = f"--threshold={EXPOSURE_MAX}"
    subprocess.run(["systemd-analyze", "security", "--offline=true", limit, here], check=True, capture_output=True)


def test_unit_and_package_agree():
    unit = UNIT.read_text()
    manifest = tomllib.loads((tools.ROOT / "broker" / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
    assert "ExecStart=/usr/bin/ottla server /etc/ottla/server.properties\n" in unit
    targets = {f"/{target}{source.split('/')[-1]}" for source, target, _ in manifest["assets"]}
    assert {"/usr/bin/ottla", "/etc/ottla/server.properties"} <= targets
    assert manifest["conf-files"] == ["/etc/ottla/server.properties"]
    # StateDirectory=ottla is /var/lib/ottla.
    assert "\nStateDirectory=ottla\n" in unit
    assert "\nlog.dirs=/var/lib/ottla\n" in (DEPLOY / "debian" / "server.properties").read_text()


LIFE_OF_A_PACKAGE = """
mkdir -p /run/systemd  # but not /run/systemd/system: there is no systemd to start it
dpkg --install /mnt/given/ottla.deb
id ottla
systemctl is-enabled ottla.service
install -d -o ottla -g ottla -m 0750 /var/lib/ottla
command=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/ottla.service)
run() { setpriv --reuid ottla --regid ottla --init-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- $command & }
ready() { /mnt/given/healthcheck; }
run
until ready 2> /dev/null; do kill -0 $!; sleep 0.1; done
echo a payment | kcat -b 127.0.0.1:9092 -t payments -P
kill $!; wait $!
echo '# mine' >> /etc/ottla/server.properties
dpkg --install /mnt/given/ottla.deb
tail -n 1 /etc/ottla/server.properties
run
until ready 2> /dev/null; do kill -0 $!; sleep 0.1; done
kcat -b 127.0.0.1:9092 -t payments -C -o beginning -e -q
kill $!; wait $!
dpkg --remove ottla
test -e /etc/ottla/server.properties
dpkg --purge ottla
test ! -e /etc/ottla/server.properties && test ! -e /usr/bin/ottla
test -e /var/lib/ottla/meta.properties && echo the data is left
"""


@pytest.mark.full
def test_package_installs_starts_upgrades_and_goes(tmp_path):
    """On a copy of this machine. The package is what `make deb` left, named by OTTLA_DEB."""
    assert machine.can(), "needs root and overlay file systems"
    shutil.copy(os.environ["OTTLA_DEB"], tmp_path / "ottla.deb")
    shutil.copy(HEALTHCHECK, tmp_path / "healthcheck")
    done = machine.run(LIFE_OF_A_PACKAGE, tmp_path)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert "enabled" in lines and "# mine" in lines and "a payment" in lines
    assert lines[-1] == "the data is left"
