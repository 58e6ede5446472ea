"""The product's own trial, whose steps are slow until a test lets them go: what happens to it happens in its training,
however fast the machine is. `python -c "import held_trial; held_trial.drive()" GO WORD...` is `harness WORD...` with
such trials; GO is the file that lets them go."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import cli
from harness.records.plain import Plain
from harness.training import loop
from harness.trials import queue
from harness.trials.queue import TrialJob

STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class HeldTrial(TrialJob):
    def __call__(self, attempt_folder: Path) -> Plain:
        go, advance = Path(os.environ["HARNESS_GO"]), loop.Training.advance

        def slowly(self: loop.Training, step: int, batch: Any) -> None:
            advance(self, step, batch)
            if not go.exists():
                time.sleep(STEP_S)

        loop.Training.advance = slowly  # type: ignore[method-assign]
        return TrialJob.__call__(self, attempt_folder)


def drive() -> None:
    os.environ["HARNESS_GO"] = sys.argv[1]
    queue.TrialJob = HeldTrial  # type: ignore[misc]
    sys.exit(cli.main(sys.argv[2:]))
