"""Hosts with an SSH server each, made of network and process namespaces on this one machine.

Names, addresses and processes of a host exist in its namespaces alone: nothing of it is left once
the process that holds them has been killed. Needs root, iproute2, util-linux, OpenSSH and rsync.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LAUNCHER, HEAD, WORKER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
_PROGRAMS = ("ip", "unshare", "ssh", "ssh-keygen", "rsync", "sshd")
#: Where programs are looked for: those of an administrator are not on everybody's PATH.
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_UNSHARE = ["unshare", "-mpui", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]

#: Runs as a host's first process. A folder of its own takes the place of what hosts have for
#: themselves; `/etc/hosts` gives a host's name its address in the network, which gloo follows.
_BOOT = """
set -eu
hostname "$NAME"
mount --bind "$OWN/home" "$HOME_FOLDER"
mount --bind "$OWN/passwd" /etc/passwd
mount --bind "$OWN/hosts" /etc/hosts
mount --bind "$OWN/ray" /tmp/ray
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec "$SSHD" -D -e -f "$OWN/sshd_config"
"""
_SSHD_CONFIG = """
ListenAddress {address}
HostKey {own}/host_key
AuthorizedKeysFile {own}/authorized_keys
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
"""


def missing() -> str | None:
    """Why no such host can be made here; None if it can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    absent = [name for name in _PROGRAMS if _program(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: openssh-server, rsync, iproute2)"
    probe = f"kod-probe-{os.getpid()}"
    made = _run("ip", "netns", "add", probe, check=False)
    if made.returncode:
        return f"the kernel refuses network namespaces: {made.stderr.strip()}"
    _run("ip", "netns", "del", probe)
    made = _run(*_UNSHARE, "mount -t tmpfs tmpfs /mnt && hostname probe", check=False)
    if made.returncode:
        return f"the kernel refuses mount, process or host name namespaces: {made.stderr.strip()}"
    return None


@dataclass(frozen=True)
class Host:
    """A host that runs.

    Attributes:
        address: in the network of the hosts.
        namespace: name of its network namespace.
        own: a folder outside, where what it alone sees is kept.
        process: holds its namespaces.
    """

    address: str
    namespace: str
    own: Path
    process: "subprocess.Popen[bytes]"

    @property
    def home(self) -> Path:
        """What the host sees as its home folder, seen from outside."""
        return self.own / "home"

    def runs(self, program: str) -> bool:
        """Whether one of its processes is of this program."""
        lines = (line for _, line in _processes(self.namespace))
        return any(Path(line.split(" ", 1)[0]).name == program for line in lines)


@dataclass(frozen=True)
class Network:
    """Two hosts and the place from which they are reached.

    Attributes:
        namespace: name of the launcher's network namespace.
        home_folder: as each host calls its own.
        key: private key that opens all of them.
        hosts: by address.
    """

    namespace: str
    home_folder: Path
    key: Path
    hosts: Mapping[str, Host]

    def inside(self, *command: object) -> list[str]:
        """A command, run where the hosts can be reached and nothing else can."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]


@contextmanager
def network(folder: Path, bashrc: str) -> Iterator[Network]:
    """Two hosts while the body runs.

    Args:
        folder: an empty one.
        bashrc: what root's shells on the hosts begin with.
    """
    home_folder = folder / "home"
    home_folder.mkdir()
    key = folder / "key"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    Path("/tmp/ray").mkdir(exist_ok=True)
    name = f"kod-{os.getpid()}"
    with ExitStack() as stack:
        stack.enter_context(_namespace(name))
        _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "-n", name, "link", "add", "bridge0", "type", "bridge")
        _run("ip", "-n", name, "address", "add", f"{LAUNCHER}/24", "dev", "bridge0")
        _run("ip", "-n", name, "link", "set", "bridge0", "up")
        hosts = {
            address: stack.enter_context(
                _host(folder / f"host-{label}", f"{name}-{label}", name, address, home_folder, key)
            )
            for label, address in (("head", HEAD), ("worker", WORKER))
        }
        for host in hosts.values():
            (host.home / ".bashrc").write_text(bashrc)
        made = Network(name, home_folder, key, hosts)
        for address in hosts:
            _await_login(made, address)
        yield made


@contextmanager
def _host(
    own: Path, namespace: str, launcher: str, address: str, home_folder: Path, key: Path
) -> Iterator[Host]:
    for below in ("home", "ray"):
        (own / below).mkdir(parents=True)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own / "host_key")
    shutil.copy(key.with_suffix(".pub"), own / "authorized_keys")
    (own / "sshd_config").write_text(_SSHD_CONFIG.format(address=address, own=own))
    label = own.name
    (own / "hosts").write_text(f"127.0.0.1 localhost\n{address} {label}\n")
    accounts = Path("/etc/passwd").read_text().splitlines()
    others = [line for line in accounts if not line.startswith("root:")]
    root = f"root:x:0:0:root:{home_folder}:/bin/bash"
    (own / "passwd").write_text("\n".join([root, *others, ""]))
    with _namespace(namespace):
        link = f"to-{address.rpartition('.')[2]}"
        for arguments in (
            f"ip -n {launcher} link add {link} type veth peer name eth0 netns {namespace}",
            f"ip -n {launcher} link set {link} master bridge0 up",
            f"ip -n {namespace} link set lo up",
            f"ip -n {namespace} address add {address}/24 dev eth0",
            f"ip -n {namespace} link set eth0 up",
            # Leads nowhere, but Ray looks for its own address by the way out.
            f"ip -n {namespace} route add default via {LAUNCHER}",
        ):
            _run(*arguments.split())
        with (own / "sshd.log").open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *_UNSHARE, _BOOT],
                env={
                    "PATH": SEARCH,
                    "NAME": label,
                    "OWN": str(own),
                    "HOME_FOLDER": str(home_folder),
                    "SSHD": str(_program("sshd")),
                },
                stdout=log,
                stderr=log,
            )
        try:
            yield Host(address, namespace, own, process)
        finally:
            process.kill()  # and with it, by --kill-child, every process of the host
            process.wait()


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    """A network namespace while the body runs; then what still runs in it is killed."""
    _run("ip", "netns", "add", name)
    try:
        yield
    finally:
        deadline = time.monotonic() + 20
        while (left := _processes(name)) and time.monotonic() < deadline:
            for process, _ in left:
                with suppress(ProcessLookupError):
                    os.kill(process, 9)
            time.sleep(0.1)
        _run("ip", "netns", "del", name)


def _await_login(made: Network, address: str) -> None:
    options = ["-i", made.key, *["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]]
    options += ["-o", "UserKnownHostsFile=/dev/null"]
    deadline = time.monotonic() + 30
    while True:
        done = _run(*made.inside("ssh", *options, f"root@{address}", "true"), check=False)
        if not done.returncode:
            return
        log = (made.hosts[address].own / "sshd.log").read_text()
        assert time.monotonic() < deadline, f"{address}: {done.stderr}{log}"
        time.sleep(0.2)


def _processes(namespace: str) -> list[tuple[int, str]]:
    found = []
    for process in _run("ip", "netns", "pids", namespace).stdout.split():
        with suppress(OSError):  # it ended meanwhile
            line = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found.append((int(process), line.strip()))
    return found


def _program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH)


def _run(*command: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
    words: Sequence[str] = [str(word) for word in command]
    environment = {**os.environ, "PATH": SEARCH}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert not (check and done.returncode), f"{' '.join(words)}: {done.stderr}"
    return done
