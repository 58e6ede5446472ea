"""`harness --help` against `import torch`, which it must do without; trials whose workers are forked, or start cold."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
from safetensors.torch import load_file

from harness.launch.events import read_events, read_steps
from harness.records.store import Store

from .interleaved import ratio_of_times, report

pytestmark = pytest.mark.benchmark(group="start-up")
LIMIT_SECONDS = 0.5


def test_help_appears_in_half_a_second(benchmark):
    harness = str(Path(sys.executable).with_name("harness"))
    ratio = ratio_of_times(
        benchmark,
        lambda: subprocess.run([harness, "--help"], check=True, capture_output=True),
        lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
        name="harness --help / import torch: time",
    )
    assert ratio.ours < LIMIT_SECONDS
    assert ratio.median < 1


STEPS, PAIRS = 120, 2
STUDY = [
    "ablate", "fig3", "seeds=[0]", f"recipe.steps={STEPS}", f"recipe.validate_every={STEPS}", "coreml=none",
    "latency=none", "twin=null", "launcher.max_in_flight=2",
]  # fmt: skip
LIMIT_FIRST_STEP_S, LIMIT_RATIO = 1.5, 0.85


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """Eight trials and the controls."""

    seconds: float
    delays: list[float]  # from submission to the first step, of all trials but those that the server's imports delay
    results: dict[str, dict[str, bytes]]  # trial key -> the trained weights


def ablated(out: Path, *, warm: bool) -> Ablated:
    began = time.perf_counter()
    command = [sys.executable, "-m", "harness", *STUDY, f"out={out}", f"launcher.warm={json.dumps(warm)}"]
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    folder, store = out / "fig3" / "attempts", Store(out / "store")
    events = read_events(folder)
    submitted = {line["key"]: line["time"] for line in events if line["event"] == "submitted"}
    first = {key: read_steps(folder / key)[0]["time"] for key in submitted if read_steps(folder / key)}
    return Ablated(
        seconds=seconds,
        delays=sorted(first[key] - submitted[key] for key in first)[: -2 if warm else None],
        results={key: _weights(store.artifact(key, "ema.safetensors")) for key in first},
    )


def _weights(path: Path) -> dict[str, bytes]:
    """Without the file's metadata, whose order is any."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.mark.timeout(7200)
def test_small_trials_start_at_once_and_end_equal(benchmark, tmp_path):
    """Without `harness report`'s page, which both write: forked against cold, in turn, in fresh stores."""
    ablated(tmp_path / "warm-up", warm=True)
    warm, cold = [], []
    for number in range(PAIRS):
        warm.append(ablated(tmp_path / f"warm{number}", warm=True))
        cold.append(ablated(tmp_path / f"cold{number}", warm=False))
    benchmark.pedantic(lambda: None)
    seconds = report(benchmark, [each.seconds for each in warm], [each.seconds for each in cold],
                     name="eight small trials, forked / cold: time", unit="s")  # fmt: skip
    delays = report(benchmark, [median(each.delays) for each in warm], [median(each.delays) for each in cold],
                    name="submission to first step, forked / cold", unit="s")  # fmt: skip
    assert all(each.results == warm[0].results for each in (*warm, *cold)), "bit-equal"
    assert delays.ours < LIMIT_FIRST_STEP_S
    assert seconds.median < LIMIT_RATIO
