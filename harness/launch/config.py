"""Where jobs run: in this process, on this machine, or on Slurm. One setting, nothing else changes.

No launcher setting is part of a trial's identity: where a job ran is provenance.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from harness.records.errors import UserError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
WEEK_MIN = 7 * 24 * 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DebugLauncher:
    """One job after another in the driver's own process: breakpoints and profilers work. Under torchrun its other
    processes share each training (`parallel`)."""

    kind: Literal["debug"] = "debug"
    threads: int | None = None
    """Informational here: the process already runs, so the callee sets torch's threads. null: leave them."""
    poll_interval_s: float = 0.05
    tflops: float | None = None
    """What one process reaches in training, 10^12 floating-point operations a second, for the hours of `--dry-run`
    alone. null: what the store's trainings reached, or an assumption that is named."""

    def __post_init__(self) -> None:
        _at_least("launcher.threads", self.threads, 1)
        _above_zero("launcher.poll_interval_s", self.poll_interval_s)
        _above_zero("launcher.tflops", self.tflops)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalLauncher:
    """Worker processes on this machine, each in a session of its own."""

    kind: Literal["local"] = "local"
    threads: int = 1
    """Threads a worker may use (OMP, MKL, ... are set before its Python starts)."""
    processes: int = 1
    """Of one training, which share its batches (`parallel`): one a GPU; each has `threads`."""
    max_in_flight: int | None = None
    """Jobs at once; null: the cores of this machine divided by `threads` and `processes`."""
    cuda_devices: tuple[int, ...] | None = None
    """CUDA devices dealt out in turn, one a process; null: every job sees what the driver sees."""
    warm: bool | None = None
    """Fork workers from a process that has imported what trials need, so that they start at once; false: each starts a
    Python of its own. null: true on Linux. On macOS a fork is not safe once torch is imported."""
    timeout_min: float = WEEK_MIN
    """A job that runs longer is asked to checkpoint and is started again."""
    start_grace_s: float = 60.0
    """How long a job that an earlier driver submitted may take until its worker holds its lock."""
    stop_grace_s: float = 20.0
    """How long a worker may take to end after SIGTERM before it is killed."""
    poll_interval_s: float = 0.1
    tflops: float | None = None
    """What one process reaches in training, 10^12 floating-point operations a second, for the hours of `--dry-run`
    alone. null: what the store's trainings reached, or an assumption that is named."""

    def __post_init__(self) -> None:
        _at_least("launcher.threads", self.threads, 1)
        _at_least("launcher.processes", self.processes, 1)
        _at_least("launcher.max_in_flight", self.max_in_flight, 1)
        for name in ("timeout_min", "start_grace_s", "stop_grace_s", "poll_interval_s", "tflops"):
            _above_zero(f"launcher.{name}", getattr(self, name))
        if self.warm and sys.platform != "linux":
            raise UserError(
                "launcher.warm must be false or null on this system: Apple's frameworks abort in a process that was "
                "forked after torch was imported; leave it out"
            )

    @property
    def forks(self) -> bool:
        return sys.platform == "linux" if self.warm is None else self.warm


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmLauncher:
    """Jobs on a Slurm cluster; the folder must lie on a file system that all nodes share."""

    kind: Literal["slurm"] = "slurm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    nodes: int = 1
    """Of one training."""
    gpus: int = 0
    """GPUs a node, each for one process of a training, which share its batches (`parallel`)."""
    processes: int | None = None
    """Of one training on each node; null: one a GPU, or one."""
    cpus: int = 4
    """Cores a process."""
    mem_gb: float | None = None
    """A node."""
    timeout_min: int = 240
    signal_delay_s: int = 120
    """How long before the time limit Slurm tells the job to checkpoint; it requeues itself then."""
    max_requeues: int = 10
    """So many time limits a trial may reach and be continued; after one more it has failed."""
    threads: int | None = None
    """Threads a worker may use; null: `cpus`."""
    max_in_flight: int = 16
    """Jobs at once, queued ones included."""
    array_parallelism: int | None = None
    """Jobs that are submitted together are one array; how many of it may run at once; null: all."""
    setup: tuple[str, ...] = ()
    """Shell lines before the worker starts: `module load ...`."""
    additional: Mapping[str, Any] = field(default_factory=dict)
    """Any other sbatch option by its name: `{reservation: night}`."""
    heartbeat_s: float = 10.0
    """A worker renews its lease this often."""
    lease_timeout_s: float = 120.0
    """A worker whose lease has not been renewed for this long is taken for dead."""
    start_grace_s: float = 60.0
    """How long Slurm's accounting may not know how a job ended that has left the queue."""
    poll_interval_s: float = 2.0
    tflops: float | None = None
    """What one process reaches in training, 10^12 floating-point operations a second, for the hours of `--dry-run`
    alone. null: what the store's trainings reached, or an assumption that is named."""

    def __post_init__(self) -> None:
        for name, low in (
            ("nodes", 1),
            ("gpus", 0),
            ("processes", 1),
            ("cpus", 1),
            ("threads", 1),
            ("max_in_flight", 1),
            ("max_requeues", 0),
            ("array_parallelism", 1),
        ):
            _at_least(f"launcher.{name}", getattr(self, name), low)
        for name in ("timeout_min", "mem_gb", "heartbeat_s", "start_grace_s", "poll_interval_s", "tflops"):
            _above_zero(f"launcher.{name}", getattr(self, name))
        if self.gpus and self.processes not in (None, self.gpus):
            raise UserError(
                f"each process uses one GPU, and launcher.processes={self.processes} on a node are not "
                f"launcher.gpus={self.gpus}; leave out launcher.processes"
            )
        if not 0 <= self.signal_delay_s < 60 * self.timeout_min:
            raise UserError(
                f"launcher.signal_delay_s must lie between 0 and the time limit of {60 * self.timeout_min} s, "
                f"not {self.signal_delay_s}; choose a smaller delay or a longer launcher.timeout_min"
            )
        if self.lease_timeout_s < 3 * self.heartbeat_s:
            raise UserError(
                f"launcher.lease_timeout_s must be at least three heartbeats ({3 * self.heartbeat_s:g} s), "
                f"not {self.lease_timeout_s:g}; raise it, or lower launcher.heartbeat_s"
            )

    @property
    def processes_a_node(self) -> int:
        return self.processes or max(1, self.gpus)

    @property
    def alone(self) -> "SlurmLauncher":
        """The same, for a job that is no training and runs in one process."""
        return replace(self, nodes=1, gpus=min(self.gpus, 1), processes=None)


LauncherConfig: TypeAlias = DebugLauncher | LocalLauncher | SlurmLauncher


def jobs_at_once(launcher: LauncherConfig) -> int:
    """How many jobs may be in flight: one in this process, cores / threads here, the setting on Slurm."""
    if isinstance(launcher, DebugLauncher):
        return 1
    if launcher.max_in_flight is not None:
        return launcher.max_in_flight
    return max(1, usable_cores() // ((launcher.threads or 1) * processes_of(launcher)))


def processes_of(launcher: LauncherConfig) -> int:
    """Of one training."""
    if isinstance(launcher, DebugLauncher):
        return torchrun_size()
    if isinstance(launcher, SlurmLauncher):
        return launcher.nodes * launcher.processes_a_node
    return launcher.processes


def processes_here(launcher: LauncherConfig) -> int:
    """Those of one training that are on this machine, where it runs here."""
    if isinstance(launcher, DebugLauncher) and torchrun_size() > 1:
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return processes_of(launcher)


def who_shares(launcher: LauncherConfig) -> str:
    """Where their number comes from, for a sentence: `launcher.nodes=2 launcher.gpus=4`."""
    if isinstance(launcher, DebugLauncher):
        return f"torchrun's WORLD_SIZE={torchrun_size()}"
    if isinstance(launcher, LocalLauncher):
        return f"launcher.processes={launcher.processes}"
    nodes = f"launcher.nodes={launcher.nodes} " if launcher.nodes > 1 else ""
    name = "gpus" if launcher.gpus else "processes"
    return f"{nodes}launcher.{name}={launcher.processes_a_node}"


TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The variables by which torchrun, or another launcher like it, tells each process of its place."""


def torchrun_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in TORCHRUN) else 1


def threads_of(launcher: LauncherConfig) -> int | None:
    """Threads a worker may use, or None where the launcher leaves that alone."""
    if isinstance(launcher, SlurmLauncher):
        return launcher.threads or launcher.cpus
    return launcher.threads


def thread_variables(launcher: LauncherConfig) -> dict[str, str]:
    """The environment that holds every numerical library to `threads_of(launcher)`."""
    threads = threads_of(launcher)
    return {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))


def usable_cores() -> int:
    """Cores this process may run on: its affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and value < low:
        raise UserError(f"{name} must be at least {low}, not {value}; choose a larger number")


def _above_zero(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < float("inf"):
        raise UserError(f"{name} must be a number above 0, not {value:g}; choose another one")
