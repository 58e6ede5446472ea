"""A real Slurm on this machine: one node, with accounting, as root, from Debian's packages, in one folder.

Nothing outside the folder is touched: own configuration (SLURM_CONF), own keys, own database, own ports on loopback.

    with Cluster() as cluster:
        subprocess.run(["sinfo"], env=os.environ | cluster.environment)

The node claims more cores than the machine has (`config_overrides`), so that many tiny jobs run at once. Its
partitions: `main`; `low`, whose jobs `high` preempts and requeues; `spot` and, after a grace time, `graced`, whose jobs
it preempts for good; `high`.

`python tests/slurm/cluster.py` starts one by hand, prints how to reach it, and stops it at Ctrl-C.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacctmgr")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
PREFIX = "harness-slurm-"
CORES = 8
MEMORY_MB = 6000
"""What the node claims: jobs ask for less, and the machine has more."""

SLURM_CONF = """\
ClusterName=harness
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits: 120 s by default, 5 s at least
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin={task}
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
# from SIGTERM to SIGKILL: time to save and to ask Slurm, on a busy machine
KillWait=15
Epilog={folder}/epilog
MinJobAge=300
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Feature=plain State=UNKNOWN
PartitionName=main Nodes={host} Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes={host} PriorityTier=1 PreemptMode=REQUEUE
PartitionName=spot Nodes={host} PriorityTier=1 PreemptMode=CANCEL
PartitionName=graced Nodes={host} PriorityTier=1 PreemptMode=CANCEL GraceTime=30
PartitionName=high Nodes={host} PriorityTier=9 PreemptMode=OFF
"""
EPILOG = """\
#!/bin/bash
while [ -e {folder}/held ]; do sleep 0.1; done
"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
"""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
"""
SQL = """\
CREATE DATABASE slurm_acct;
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct.* TO 'slurm'@'127.0.0.1';
"""


class CannotStartError(Exception):
    """Why there is no Slurm here, in one sentence."""


class Cluster:
    def __init__(self) -> None:
        sweep_up()
        # in /tmp: a socket's path has at most 107 characters
        self.folder = folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir="/tmp"))
        self.host = socket.gethostname().split(".")[0]
        self.ports = dict(zip(("mariadbd", "slurmdbd", "slurmctld", "slurmd"), free_ports(4), strict=True))
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # the parts, in their order

    def start(self) -> None:
        """Raises CannotStartError, with the last lines of the log of the part that does not come up."""
        self._write_configuration()
        self._start_munge()
        self._start_database()
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: self.ok("sacctmgr", "-n", "show", "cluster"))
        self.run("sacctmgr", "-i", "add", "cluster", "harness")
        self.run("sacctmgr", "-i", "add", "account", "lab")
        self.run("sacctmgr", "-i", "add", "user", "root", "account=lab")
        self._start("slurmctld", "slurmctld", "-D", "-c")
        self.start_node()

    def start_node(self) -> None:
        self._start("slurmd", "slurmd", "-D", "-N", self.host)
        self._wait("slurmd", lambda: self.run("sinfo", "-h", "-o", "%T", "-p", "main", check=False).strip() == "idle")

    def stop(self) -> None:
        """End every daemon and every job step, the youngest first; harmless twice."""
        if "slurmctld" in self._daemons:
            self.ok("scancel", "--user=root")
            with contextlib.suppress(CannotStartError):
                self._wait("slurmctld", lambda: self.run("squeue", "-h", check=False) == "", seconds=60)
        for name in reversed(list(self._daemons)):
            self.end(name)
        end_all(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        for group in sorted(Path("/sys/fs/cgroup").glob(f"*/slurm_{self.host}/**/"), reverse=True):
            with contextlib.suppress(OSError):  # the kernel's own subfolders
                group.rmdir()

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one daemon."""
        daemon = self._daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    @contextlib.contextmanager
    def jobs_cannot_end(self) -> Iterator[None]:
        """Inside, a job whose processes are gone stays COMPLETING, as under an epilog that takes its time."""
        held = self.folder / "held"
        held.touch()
        try:
            yield
        finally:
            held.unlink()

    # asking

    def run(self, *command: str, check: bool = True) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | self.environment)
        if check and done.returncode:
            raise CannotStartError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def ok(self, *command: str) -> bool:
        return not subprocess.run(
            command, capture_output=True, timeout=120, env=os.environ | self.environment
        ).returncode

    # how

    def _write_configuration(self) -> None:
        self.folder.chmod(0o755)  # the database runs as its own user
        for name in ("state", "spool", "database"):
            (self.folder / name).mkdir()
        values = {"folder": self.folder, "host": self.host, "cores": CORES, "memory": MEMORY_MB, **self.ports}
        values["task"] = "task/cgroup" if limits_memory() else "task/none"
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
        (self.folder / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**values))
        (self.folder / "slurmdbd.conf").chmod(0o600)
        (self.folder / "cgroup.conf").write_text(CGROUP_CONF)
        (self.folder / "epilog").write_text(EPILOG.format(**values))
        (self.folder / "epilog").chmod(0o755)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self._start("munged", "munged", "--foreground", "--force", *options)
        self._wait("munged", (self.folder / "munge.socket").exists)

    def _start_database(self) -> None:
        data, server = self.folder / "database", f"--socket={self.folder}/database.socket"
        shutil.chown(data, "mysql", "mysql")
        quiet = ["--auth-root-authentication-method=normal", "--skip-test-db", "--user=mysql"]
        self.run("mariadb-install-db", "--no-defaults", f"--datadir={data}", *quiet)
        self._start(
            "mariadbd", "mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}",
            f"--port={self.ports['mariadbd']}", "--bind-address=127.0.0.1", f"--socket={data}/socket",
            f"--pid-file={data}/pid",
            "--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        server = f"--socket={data}/socket"
        self._wait("mariadbd", lambda: self.ok("mariadb-admin", "--no-defaults", "-uroot", server, "ping"))
        self.run("mariadb", "--no-defaults", "-uroot", server, "-e", SQL)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | self.environment,
                start_new_session=True,
            )  # fmt: skip

    def _wait(self, name: str, ready: Callable[[], bool], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if self._daemons[name].poll() is not None or time.monotonic() > deadline:
                raise CannotStartError(f"{name} did not come up: {self._last_lines(name)}")
            time.sleep(0.1)

    def _last_lines(self, name: str) -> str:
        logs = [self.folder / f"{name}.out", self.folder / f"{name}.log"]
        return " / ".join(line for log in logs if log.exists() for line in log.read_text().splitlines()[-5:])


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def limits_memory() -> bool:
    """Whether Slurm can hold its jobs to the memory they asked for: it needs the memory controller of cgroup v1."""
    return os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK)


def end_all(folder: Path) -> None:
    """Kill every process that was started with this folder's configuration: job steps, and what a crash left."""
    mark = f"SLURM_CONF={folder}/".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "environ").read_bytes().startswith(mark) or b"\0" + mark in (
                    entry / "environ"
                ).read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def sweep_up() -> None:
    """End what earlier runs left that were killed before they could."""
    for folder in Path("/tmp").glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if not Path(f"/proc/{owner}").exists():
            end_all(folder)
            shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_until_all_are_chosen:
        sockets = [open_until_all_are_chosen.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    with Cluster() as started:
        print(f"export SLURM_CONF={started.environment['SLURM_CONF']}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
