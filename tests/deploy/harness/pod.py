"""Runs a rendered pod for real: its command line, files, variables, user, mounts, probes and hooks.

A pod gets a network of its own, so that it has exactly the ports that were rendered. Where namespaces can't
be made (no root), `isolated()` is false, and ports, paths and user are replaced by ones of this machine.
"""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from harness import tools
from harness.ports import free_ports

CONTAINER = pathlib.Path(__file__).with_name("container.py")
CONFIG, DATA = "/etc/ottla", "/var/lib/ottla"
PROBE_TIMEOUT_S = 60
GET = """
import sys, urllib.request, urllib.error
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2]))
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    sys.exit(f"{error}")
print(answer.status)
print(answer.read().decode())
"""


class PodError(Exception):
    """The pod did not do what its manifest promises."""


@functools.cache
def isolated():
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    script = "mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && ip link set lo up"
    done = subprocess.run(["unshare", "--mount", "--net", "sh", "-c", script], capture_output=True)
    return done.returncode == 0


class Network:
    """Networks and names outlive pods: a namespace with the cluster's DNS (a dict of names) as /etc/hosts."""

    def __init__(self, folder, names):
        hosts = folder / "hosts"
        self.hosts = "".join(f"{address} {name}\n" for name, address in ({"localhost": "127.0.0.1"} | names).items())
        hosts.write_text(self.hosts)
        script = f"mount --make-rprivate / && mount --bind {hosts} /etc/hosts && ip link set lo up && echo up && exec sleep infinity"
        command = ["unshare", "--mount", "--net", "sh", "-c", script]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.holder.stdout.readline() == "up\n"

    def within(self, *command, mount=True):
        spaces = ["--net", "--mount"] if mount else ["--net"]
        return ["nsenter", *spaces, "--target", str(self.holder.pid), "--", *command]

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class Pod:
    """Pod number `index` of a rendered StatefulSet."""

    def __init__(self, objects, folder, *, name="ottla", index=0, zone=None, secrets=None, network=None):
        self.stateful = objects["StatefulSet", name]["spec"]
        self.pod = self.stateful["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.name = f"{name}-{index}"
        self.zone = zone
        self.secrets = secrets or {}
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process = None
        self.files = dict(objects["ConfigMap", name]["data"])
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.data.mkdir(parents=True, exist_ok=True)
        self.network = network
        if network:
            pass
        elif isolated():
            names = re.findall(r"//([a-z0-9.-]+[a-z]):", "".join(self.files.values()))
            service = f"{name}.{names[0].split('-headless.')[1]}"
            self.network = Network(self.folder, dict.fromkeys([*names, service], "127.0.0.1"))
        else:
            self._use_this_machine()

    def _use_this_machine(self):
        """Other ports and paths, and nothing else."""
        real = dict(zip(self.ports, free_ports(len(self.ports))))
        for file, text in self.files.items():
            for port, number in self.ports.items():
                text = text.replace(f":{number}", f":{real[port]}")
            text = re.sub(r"//ottla-\d+\.[a-z.-]+:", "//127.0.0.1:", text)
            self.files[file] = text.replace("0.0.0.0", "127.0.0.1").replace("[::]", "127.0.0.1").replace(DATA, str(self.data))
        self.ports = real

    def update(self, objects):
        """What a new revision of the StatefulSet and its ConfigMap say, from the next start on."""
        name = self.name.rsplit("-", 1)[0]
        self.stateful = objects["StatefulSet", name]["spec"]
        self.pod = self.stateful["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.files = dict(objects["ConfigMap", name]["data"])

    def env(self):
        """What Kubernetes hands over: the downward API, and nothing of the machine's."""
        fields = {
            "metadata.name": self.name,
            "metadata.labels['topology.kubernetes.io/zone']": self.zone or "",
            "status.podIP": "127.0.0.1",
        }
        found = {"PATH": "/usr/bin:/bin", "HOSTNAME": self.name}
        for variable in self.container["env"]:
            source = variable.get("valueFrom", {})
            if secret := source.get("secretKeyRef"):
                value = self.secrets[secret["name"], secret["key"]]
            elif field := source.get("fieldRef"):
                value = fields[field["fieldPath"]]
            else:
                value = variable["value"]
            found[variable["name"]] = value
        return found

    def argv(self):
        words = [*self.container["command"], *self.container["args"]]
        return [re.sub(r"\$\((\w+)\)", lambda m: self.env()[m[1]], word) for word in words]

    def start(self):
        mounts = {mount["mountPath"]: mount for mount in self.container["volumeMounts"]}
        volumes = self._volumes(mounts)
        with self.log.open("ab") as log:
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            if isolated():
                spec = self._container(volumes, mounts)
                command = ["unshare", "--mount", sys.executable, "-B", str(CONTAINER), str(spec)]
                self.process = subprocess.Popen(self.network.within(*command, mount=False), **options)
            else:
                argv = [word.replace(CONFIG, volumes[CONFIG]) for word in self.argv()]
                self.process = subprocess.Popen(argv, executable=tools.ottla(), env=self.env(), **options)

    def _volumes(self, mounts):
        """What each mount shows: files of ConfigMaps, or the volume that outlives the pod."""
        assert set(mounts) == {CONFIG, DATA}
        return {CONFIG: self._files("config", self.files), DATA: str(self.data)}

    def _files(self, name, texts):
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, text in texts.items():
            (folder / file).write_text(text)
        return str(folder)

    def _container(self, volumes, mounts):
        security = self.pod["securityContext"] | self.container["securityContext"]
        assert security["readOnlyRootFilesystem"], "other containers are not built here"
        os.chown(self.data, 0, security["fsGroup"])
        self.data.chmod(0o2775)
        self.folder.chmod(0o755)
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        hosts = f"127.0.0.1 {self.name}\n{self.network.hosts}"
        spec = {
            "root": str(root),
            "files": {"/etc/hosts": hosts, "/etc/nsswitch.conf": "hosts: files\n"},
            "volumes": volumes,
            "writable": [path for path, mount in mounts.items() if not mount.get("readOnly")],
            "program": str(tools.ottla()),
            "argv": self.argv(),
            "env": self.env(),
            "uid": security["runAsUser"],
            "gid": security["runAsGroup"],
            "no_new_privileges": not security["allowPrivilegeEscalation"],
            "drop_all": security["capabilities"]["drop"] == ["ALL"],
        }
        file = self.folder / "container.json"
        file.write_text(json.dumps(spec))
        return file

    def within(self, *command):
        """A command line that runs in the pod's network."""
        return self.network.within(*command) if self.network else [*command]

    def get(self, path, port="metrics", timeout_s=5, host="127.0.0.1"):
        """(status, body); raises OSError if nobody answers."""
        url = f"http://{host}:{self.ports[port]}{path}"
        command = self.within(sys.executable, "-c", GET, url, str(timeout_s))
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr)
        status, body = done.stdout.split("\n", 1)
        return int(status), body

    def probe(self, which):
        """Whether one try of a probe succeeds, as the kubelet sees it."""
        probe = self.container[which]
        http = probe["httpGet"]
        try:
            status, _ = self.get(http["path"], http["port"], probe["timeoutSeconds"])
        except OSError:
            return False
        return 200 <= status < 400

    def wait(self, which="readinessProbe"):
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        while not self.probe(which):
            if self.process.poll() is not None:
                raise PodError(f"ended with {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise PodError(f"{which} still fails after {PROBE_TIMEOUT_S} s:\n{self.tail()}")
            time.sleep(0.05)

    def terminate(self):
        """What the kubelet does: preStop, SIGTERM, and SIGKILL when the grace period is over."""
        sleep_s = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        time.sleep(sleep_s)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(self.pod["terminationGracePeriodSeconds"] - sleep_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise PodError(f"killed: it outlived its grace period\n{self.tail()}") from None

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.kill()
        if self.network:
            self.network.close()

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def kcat_command(self, *arguments):
        return self.within("kcat", "-b", f"127.0.0.1:{self.ports['kafka']}", *arguments)

    def kcat(self, *arguments, data=None):
        """A client within the cluster: it follows the advertised names."""
        command = self.kcat_command(*arguments)
        done = subprocess.run(command, input=data, text=True, capture_output=True, timeout=60)
        if done.returncode:
            raise PodError(done.stderr)
        return done.stdout


class Worker(Pod):
    """A pod of the rendered Deployment of connectors, beside a broker's pod: their Services lead to this host."""

    def __init__(self, objects, folder, broker, *, secrets, config_maps):
        name = "ottla-connect"
        self.pod = objects["Deployment", name]["spec"]["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.name, self.zone, self.secrets, self.process = f"{name}-x", None, secrets, None
        self.config_maps = config_maps | {name: objects["ConfigMap", name]["data"]}
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.data.mkdir(parents=True)
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.network = broker.network

    def _volumes(self, mounts):
        found = {}
        volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        for path, mount in mounts.items():
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                found[path] = str(self.data)
                continue
            if source := volume.get("configMap"):
                texts = self.config_maps[source["name"]]
                texts = {item["path"]: texts[item["key"]] for item in source["items"]} if "items" in source else texts
            else:
                texts = {key: text for (name, key), text in self.secrets.items() if name == volume["secret"]["secretName"]}
            folder = self._files(mount["name"], texts)
            found[path] = f"{folder}/{mount['subPath']}" if "subPath" in mount else folder
        return found

    def close(self):
        self.kill()
