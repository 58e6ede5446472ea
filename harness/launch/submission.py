"""What a launcher would be given, as text for people; nothing is submitted."""

import shlex
import sys
from pathlib import Path

from harness.launch.config import DebugLauncher, LauncherConfig, LocalLauncher, jobs_at_once, thread_variables
from harness.launch.slurm import script_of
from harness.launch.snapshot import code_variables


def submission_of(launcher: LauncherConfig, root: Path, keys: list[str]) -> str:
    """How jobs at these keys would be started. `root` is the folder of attempts; a copy of the code is taken there.

    Errors: UserError where there is no such launcher on this machine.
    """
    if isinstance(launcher, DebugLauncher):
        return "in this process, one job after another"
    root.mkdir(parents=True, exist_ok=True)
    if not isinstance(launcher, LocalLauncher):
        return script_of(root, keys[: launcher.max_in_flight], launcher)
    variables = " ".join(
        f"{name}={value}" for name, value in (thread_variables(launcher) | code_variables(root)).items()
    )
    folder = root / keys[0] / "attempt-001" / "submitit"
    command = shlex.join([sys.executable, "-m", "submitit.local._local", str(folder)])
    return f"{jobs_at_once(launcher)} at once, each by\n{variables} {command}"
