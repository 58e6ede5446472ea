"""Where a record comes from: code, versions, machine, command, times. Not part of any identity."""

import hashlib
import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

SNAPSHOT = "SNAPSHOT.json"
"""The file beside a copy of the package that says what it is a copy of."""

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "transformers",
    "safetensors",
    "scikit-learn",
    "torch-fidelity",
    "fvcore",
    "coremltools",
    "optuna",
    "submitit",
)


def provenance(*, threads: int | None = None, **more: Any) -> dict[str, Any]:
    """What is known when a record's work begins; `completed_provenance` adds the end. `more`: device, dtype, ..."""
    return {
        "code": code_state(Path(__file__).parent),
        "versions": versions(PACKAGES),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "command": own_command(),
        "started": now(),
        **more,
    }


def own_command() -> str:
    """What began this process, as it is typed again: `harness sweep laptop`, wherever the program lies."""
    program = Path(sys.argv[0])
    typed = "harness" if "harness" in (program.name, program.parent.name) else str(program)
    return shlex.join([typed, *sys.argv[1:]])


def completed_provenance(start: dict[str, Any], **more: Any) -> dict[str, Any]:
    """`provenance` with the time it was finished, the seconds between, and what was learnt meanwhile."""
    finished = now()
    seconds = (datetime.fromisoformat(finished) - datetime.fromisoformat(start["started"])).total_seconds()
    return {**start, "finished": finished, "wall_seconds": seconds, **more}


def now() -> str:
    """UTC, ISO 8601, to the microsecond."""
    return datetime.now(UTC).isoformat()


@cache
def code_state(folder: Path) -> dict[str, str]:
    """The commit, and a hash of what differs from it (tracked changes and names and contents of new files).

    Outside a git checkout, or without git, `commit` says so. A copy of the package that jobs run has the state of what
    it was copied from, and `snapshot`, the hash of its files.
    """
    for above in (folder, *folder.parents):
        if (above / SNAPSHOT).exists():
            return dict(json.loads((above / SNAPSHOT).read_text()))
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "HEAD")
    if top is None or commit is None or not _git(folder, "ls-files", "."):  # or installed inside another checkout
        return {"commit": "not a git checkout", "changes": "unknown"}
    root = Path(top.decode().strip())
    digest = hashlib.sha256(_git(root, "diff", "HEAD", "--binary") or b"")
    new_files = (_git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py", "*.yaml") or b"").split(
        b"\0"
    )
    for name in sorted(filter(None, new_files)):
        path = root / os.fsdecode(name)
        digest.update(name + b"\0" + (path.read_bytes() if path.is_file() else b""))
    clean = digest.digest() == hashlib.sha256().digest()
    return {"commit": commit.decode().strip(), "changes": "none" if clean else digest.hexdigest()[:16]}


def source_files(package: Path) -> list[Path]:
    """The package's files, sorted: those that git tracks or would; outside a checkout all but compiled ones."""
    listed = _git(package, "ls-files", "-z", "--cached", "--others", "--exclude-standard", ".")
    if listed:
        paths = [package / os.fsdecode(name) for name in set(listed.split(b"\0")) if name]
    else:
        paths = [path for path in package.rglob("*") if "__pycache__" not in path.parts]
    return sorted(path for path in paths if path.is_file())


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions, read from their metadata: nothing is imported."""
    installed = {}
    for package in packages:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


@cache
def processor_name() -> str:
    """The processor as its maker calls it; the architecture where the system does not tell."""
    if sys.platform == "darwin":
        brand = _output("sysctl", "-n", "machdep.cpu.brand_string")
        return brand.decode().strip() if brand else platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> bytes | None:
    return _output("git", "-C", str(folder), *arguments)


def _output(*command: str) -> bytes | None:
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=20, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.SubprocessError):
        return None
