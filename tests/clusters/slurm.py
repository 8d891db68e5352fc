"""A Slurm of one controller and two nodes, made of namespaces on this one machine.

Everything runs below one process that holds the namespaces: when it is killed the kernel ends all
daemons and jobs, and takes the network and the mounts away. Each node has a network, processes, a
host name, a /dev/shm and a /tmp/ray of its own, and the same disk as the others. Needs root,
iproute2, util-linux, and Debian's slurm-wlm and munge.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
_PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "munged", "slurmctld", "slurmd", "sbatch")
#: Daemons are not on everybody's PATH.
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_FREEZER = Path("/sys/fs/cgroup/freezer")
_UNSHARE = ["unshare", "-mpuni", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]

#: The first process of the controller; its daemons, and those of the nodes, are its children.
_CONTROLLER = """
set -eu
hostname control
mount -t tmpfs tmpfs /run
mount --bind "$OWN/hosts" /etc/hosts
ip link set lo up
ip link add bridge0 type bridge
ip address add 10.78.0.1/24 dev bridge0
ip link set bridge0 up
setpriv --reuid munge --regid munge --clear-groups munged --foreground --force \
  --key-file="$OWN/munge/key" --socket="$OWN/munge/socket" --pid-file="$OWN/munge/pid" \
  --log-file="$OWN/munge/log" --seed-file="$OWN/munge/seed" &
slurmctld -D -c -f "$OWN/slurm.conf" >"$OWN/slurmctld.out" 2>&1 &
last=1
for node in n1 n2; do
  last=$((last + 1))
  ip netns add "$node"
  ip link add "to-$node" type veth peer name eth0 netns "$node"
  ip link set "to-$node" master bridge0 up
  ip -n "$node" link set lo up
  ip -n "$node" address add "10.78.0.$last/24" dev eth0
  ip -n "$node" link set eth0 up
  ip -n "$node" route add default via 10.78.0.1
  NODE=$node nsenter --net="/run/netns/$node" \
    unshare --pid --mount --uts --ipc --fork --kill-child --mount-proc \
    bash -c "$NODE_SCRIPT" >"$OWN/$node/slurmd.out" 2>&1 &
done
while :; do wait || :; sleep 1; done
"""

#: The first process of a node. Slurm keeps track of a job's processes in a control group; a group
#: of the node's own is the root of what it sees, for both nodes know the same jobs.
_NODE = """
set -eu
hostname "$NODE"
mount --bind "$OWN/$NODE/ray" /tmp/ray
mount -t tmpfs -o size=1g tmpfs /dev/shm
echo 0 >"$FREEZER/$PREFIX-$NODE/cgroup.procs"
exec unshare --cgroup bash -c '
  mount -t cgroup -o freezer cgroup "$OWN/cgroup/freezer"
  exec slurmd -D -N "$NODE" -f "$OWN/slurm.conf"
'
"""

_CONF = """
ClusterName=kod
SlurmctldHost=control(10.78.0.1)
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket={own}/munge/socket
CredType=cred/munge
StateSaveLocation={own}/state
SlurmdSpoolDir={own}/%n/spool
SlurmctldPidFile={own}/slurmctld.pid
SlurmdPidFile={own}/%n/slurmd.pid
SlurmctldLogFile={own}/slurmctld.log
SlurmdLogFile={own}/%n/slurmd.log
SlurmdParameters=config_overrides
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName=n1 NodeAddr=10.78.0.2 CPUs=1 RealMemory=4000
NodeName=n2 NodeAddr=10.78.0.3 CPUs=1 RealMemory=4000
PartitionName=spare Nodes=n[1-2] Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
PartitionName=urgent Nodes=n[1-2] PriorityTier=10 PreemptMode=OFF
"""
_CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint={own}/cgroup
"""


def missing() -> str | None:
    """Why there can be no such Slurm here; None if there can."""
    if os.geteuid() != 0:
        return "only root may make namespaces"
    absent = [name for name in _PROGRAMS if shutil.which(name, path=SEARCH) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge, iproute2)"
    if not (_FREEZER / "tasks").exists():
        return f"no control groups of version 1 at {_FREEZER}, which nodes on one machine need"
    made = subprocess.run(
        [*_UNSHARE, "ip link add bridge0 type bridge"], capture_output=True, text=True
    )
    return f"the kernel refuses namespaces: {made.stderr.strip()}" if made.returncode else None


@dataclass(frozen=True)
class Slurm:
    """A Slurm that runs.

    Attributes:
        own: its folder, the same on all nodes.
        process: holds its namespaces.
    """

    own: Path
    process: "subprocess.Popen[bytes]"

    def run(self, *command: object, env: dict[str, str] | None = None) -> str:
        """Run a command where the controller is; gives what it printed."""
        inside = ["nsenter", f"--target={self._first()}", "--all", f"--wdns={self.own}"]
        environment = {
            "PATH": SEARCH,
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.own / "slurm.conf"),
            **(env or {}),
        }
        done = subprocess.run(
            [*inside, *map(str, command)],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not done.returncode, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def state(self, job: str) -> str:
        """What `squeue` says of a job; empty once Slurm has forgotten it."""
        shown = self.run("squeue", "--noheader", "--states=all", "--format=%T")
        return self.run("scontrol", "--oneliner", "show", "job", job) if shown else ""

    def logs(self) -> str:
        """The ends of what the daemons have to say."""
        said = ""
        for path in (self.own / "slurmctld.log", *(self.own / n / "slurmd.log" for n in NODES)):
            with suppress(OSError):
                said += f"--- {path.name}\n" + "".join(path.open().readlines()[-30:])
        return said

    def _first(self) -> int:
        """The process that is number 1 inside: the child of `unshare`."""
        own = self.process.pid
        return int(Path(f"/proc/{own}/task/{own}/children").read_text().split()[0])


@contextmanager
def slurm(own: Path, grace: int = 60) -> Iterator[Slurm]:
    """A Slurm of two nodes of one CPU each while the body runs.

    Jobs of the partition ``urgent`` take nodes from those of ``spare``, the default: these are told
    by SIGTERM, have `grace` seconds, and are queued again.

    Args:
        own: an empty folder with a short name.
        grace: in seconds.
    """
    for below in (
        "munge",
        "state",
        "cgroup/freezer",
        *(f"{n}/{d}" for n in NODES for d in ("ray", "spool")),
    ):
        (own / below).mkdir(parents=True)
    own.chmod(0o755)
    Path("/tmp/ray").mkdir(exist_ok=True)
    (own / "munge" / "key").write_bytes(os.urandom(128))
    (own / "munge" / "key").chmod(0o600)
    for path in (own / "munge", own / "munge" / "key"):
        shutil.chown(path, "munge", "munge")
    (own / "munge").chmod(0o755)
    (own / "hosts").write_text(
        "127.0.0.1 localhost\n10.78.0.1 control\n10.78.0.2 n1\n10.78.0.3 n2\n"
    )
    (own / "slurm.conf").write_text(_CONF.format(own=own, grace=grace))
    (own / "cgroup.conf").write_text(_CGROUP_CONF.format(own=own))
    prefix = f"kod-slurm-{os.getpid()}"
    groups = [_FREEZER / f"{prefix}-{node}" for node in NODES]
    for group in groups:
        group.mkdir()
    environment = {
        "PATH": SEARCH,
        "OWN": str(own),
        "NODE_SCRIPT": _NODE,
        "FREEZER": str(_FREEZER),
        "PREFIX": prefix,
    }
    with (own / "boot.out").open("wb") as log:
        process = subprocess.Popen(
            [*_UNSHARE, _CONTROLLER], env=environment, stdout=log, stderr=log
        )
    try:
        made = Slurm(own, process)
        _await_nodes(made)
        yield made
    finally:
        process.kill()  # and with it, by --kill-child, everything inside
        process.wait()
        for group in groups:
            _remove(group)


def _await_nodes(made: Slurm) -> None:
    deadline = time.monotonic() + 60
    while True:
        with suppress(AssertionError, IndexError, OSError):
            if (
                made.run("sinfo", "--noheader", "--format=%T", "--partition=spare").strip()
                == "idle"
            ):
                return
        boot = (made.own / "boot.out").read_text()
        assert time.monotonic() < deadline, f"{boot}{made.logs()}"
        assert made.process.poll() is None, boot
        time.sleep(0.5)


def _remove(group: Path) -> None:
    """Take a control group away once its processes have ended."""
    deadline = time.monotonic() + 20
    below = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    for folder in (*below, group):
        while True:
            try:
                folder.rmdir()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder, (folder / "tasks").read_text())
                time.sleep(0.2)
