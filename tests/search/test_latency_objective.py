"""`harness sweep` with a measured latency as an objective: the real driver, jobs, store and folder queue."""

import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import optuna
import pytest
from optuna.trial import TrialState
from stand_in_agent import answer_for, weights_of
from tiny_study import SETTINGS, SWEEP, export_cheaply, write_yaml

from harness.cli import main
from harness.device.queue import PACKAGE, FolderQueue
from harness.latency import exported as exported_module
from harness.records.quantity import Measured, Unavailable
from harness.records.store import Store
from harness.trials import queue as trial_queue
from harness.trials import run

AGENT = Path(__file__).parent / "stand_in_agent.py"
PHONE = {**SETTINGS, "latency": "iphone", "latency.iphone.queue": "queue", "latency.iphone.chip": "A17 Pro"}
OBJECTIVES = {"kid": "minimize", "latency_iphone": "minimize"}


def _shapes(module):
    return repr([(name, tuple(weight.shape)) for name, weight in module.named_parameters()]).encode()


@pytest.fixture
def exports(workplace, monkeypatch):
    """A sweep of six candidates with a queue; a package of a network's shapes in place of a conversion."""
    made = export_cheaply(monkeypatch, _shapes)
    monkeypatch.setattr(trial_queue, "LOOK_EVERY_S", 0.2)
    Path("queue").mkdir()
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "trials": 6, "objectives": OBJECTIVES, "settings": PHONE})
    return made


def trials(*states):
    storage = f"sqlite:///{Path('runs/search/study.db').absolute()}"
    return optuna.load_study(study_name="search", storage=storage).get_trials(states=states or None)


class Agents:
    """One after the other; each but the last is killed while it holds claims."""

    def __init__(self, deaths: int) -> None:
        self.killed, self._thread = 0, Thread(target=self._work, args=(deaths,), daemon=True)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(timeout=60)
        self._process.kill()
        self._process.wait()

    def _work(self, deaths: int) -> None:
        for death in range(deaths + 1):
            self._process = subprocess.Popen([sys.executable, str(AGENT), "queue", "answers.log"])
            if death == deaths:
                return
            while not list(Path("queue/claimed").glob("*.json")):
                time.sleep(0.02)
            self._process.kill()
            self._process.wait()
            self.killed += 1


@pytest.mark.slow
def test_a_sweep_waits_for_a_phone_that_is_late_out_of_order_fails_some_and_dies(exports, capsys, monkeypatch):
    assert main(["sweep", "search", "wait_hours=0"]) == 0
    assert "6 candidates await a measurement: the same command goes on" in capsys.readouterr().err
    assert len(trials(TrialState.RUNNING)) == len(exports) == 6
    for trial in trials():
        (rung,) = trial.user_attrs["levels"]
        assert rung["values"] is None
        assert rung["awaits"] == ["latency_iphone"]
        assert rung["stand_in"][1] > 0, "predicted"
    assert main(["status", "search"]) == 0
    assert "awaited     latency_iphone of 6" in capsys.readouterr().out
    monkeypatch.setattr(run.Trial, "train", None)  # nothing is trained or exported twice
    monkeypatch.setattr(exported_module, "export_package", None)
    with Agents(deaths=2) as agents:
        assert main(["sweep", "search"]) == 0
    assert agents.killed == 2
    queue = FolderQueue(Path("queue"))
    answers = Path("answers.log").read_text().split()
    assert sorted(answers) == sorted({entry.request.id for entry in queue.entries()}), "each is answered once"
    expected = {}
    for entry in queue.entries():
        answer = answer_for(weights_of(queue.folder(entry.request) / PACKAGE))
        expected[entry.request.id] = answer.value if isinstance(answer, Measured) else None
    complete, failed = trials(TrialState.COMPLETE), trials(TrialState.FAIL)
    good = sorted(value for value in expected.values() if value is not None)
    assert sorted(trial.values[1] for trial in complete) == good
    assert len(complete) + len(failed) == 6
    assert failed
    assert {trial.user_attrs["failed"] for trial in failed} == {
        "no latency_iphone: parity: the outputs agree to 12 dB, below 35 dB"
    }
    latencies = [record.quantities["latency_iphone"] for record in Store(Path("runs/store")).trials()]
    assert not any(isinstance(latency, Unavailable) for latency in latencies)


def test_the_dry_run_says_how_many_measurements_the_phone_would_make(exports, capsys):
    assert main(["sweep", "search", "--dry-run", "4"]) == 0
    assert "the phone would make 4 measurements of latency_iphone" in capsys.readouterr().out
    assert exports == []
    assert not any(Path("queue").iterdir()), "nothing was asked"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({**PHONE, "latency.iphone.queue": None}, "the objective latency_iphone needs a queue folder: set latency."),
        ({**PHONE, "latency.iphone.queue": "elsewhere"}, "the objective latency_iphone needs the queue folder within"),
        (SETTINGS, "unknown objective 'latency_iphone'; choose one of: "),
    ],
)
def test_an_objective_without_a_queue_is_a_sentence_before_anything_is_trained(exports, capsys, settings, sentence):
    write_yaml(Path("sweeps/search.yaml"), {**SWEEP, "objectives": OBJECTIVES, "settings": settings})
    assert main(["sweep", "search"]) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("runs/search").exists()


def test_a_twins_latency_is_awaited_alike(exports, capsys):
    twin = {"twin": {"base": "laptop/thin_sdxl", "latent": 8}}
    content = {**SWEEP, "objectives": {"kid": "minimize", "twin.latency_iphone": "minimize"}, "trials": 1}
    write_yaml(Path("sweeps/search.yaml"), {**content, "settings": {**PHONE, **twin}})
    assert main(["sweep", "search", "wait_hours=0"]) == 0
    assert "1 candidate awaits a measurement" in capsys.readouterr().err
    (trial,) = trials()
    (rung,) = trial.user_attrs["levels"]
    assert rung["awaits"] == ["twin.latency_iphone"]
    assert rung["stand_in"][1] > 0
    queue = FolderQueue(Path("queue"))
    from stand_in_agent import PHONE as DEVICE

    with queue.alive() as owner:
        queue.finish(queue.claim(owner, DEVICE.chip), DEVICE, Measured(value=5.0, unit="ms"))
    assert main(["sweep", "search"]) == 0
    (trial,) = trials(TrialState.COMPLETE)
    assert trial.values[1] == 5.0
    (record,) = Store(Path("runs/store")).trials()
    assert record.quantities["twin.latency_iphone"].conditions["latent"] == 8, "of the twin"
