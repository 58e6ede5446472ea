"""The code that jobs run: a copy of this package, taken when a driver submits its first job.

A job may start hours after its study, be requeued, or be started again; the checkout it came from may be edited
meanwhile, or have another branch. So workers, on a cluster and on this machine alike, import the copy: a study is one
code. Their pickles name classes by module, and find in the copy the classes that they were made from. What the package
depends on is not copied: the environment is the same for all.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from harness.records.provenance import SNAPSHOT, code_state, source_files
from harness.records.store import unwritable

PACKAGE = Path(__file__).parent.parent
START = (
    'import sys, runpy; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[sys.argv.index("-m") + 1 :]; '
    'runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)'
)
"""What `python -m` does, with the first argument first in the path."""
HOLD_SIGNALS = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR2)); "
"""Before all else: they wait until the worker listens (`StopSignals`), where they would have ended its imports."""


@cache
def snapshot(folder: Path) -> Path:
    """FOLDER/code-<hash> with a copy of the package in it; once a process, and once a state of the code."""
    files = {path: path.read_bytes() for path in source_files(PACKAGE)}
    digest = hashlib.sha256()
    for path, content in files.items():
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{len(content)}\0".encode() + content)
    name = digest.hexdigest()[:12]
    target = folder / f"code-{name}"
    if not target.exists():
        try:
            _copy(files, target, {**code_state(PACKAGE), "snapshot": name})
        except OSError as error:
            raise unwritable(target, error) from error
    return target


def python_command(folder: Path, *, hold_signals: bool = False) -> list[str]:
    """A Python that imports the copy before the installed package, and nothing from the working directory; `-m MODULE
    ARGUMENTS` follow. The path of the copy is an argument, since PYTHONPATH would split it at a colon."""
    start = HOLD_SIGNALS + START if hold_signals else START
    return [sys.executable, "-u", "-P", "-c", start, str(snapshot(folder))]


def _copy(files: dict[Path, bytes], target: Path, state: dict[str, str]) -> None:
    """Appears by rename: a worker sees all of it or none. Another driver may have been faster with the same."""
    partial = Path(tempfile.mkdtemp(prefix=".code-", dir=target.parent))
    partial.chmod(0o755)
    for path, content in files.items():
        copy = partial / PACKAGE.name / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    (partial / SNAPSHOT).write_text(json.dumps(state, indent=1))
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.exists():
            raise
