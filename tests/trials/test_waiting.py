"""Trials finish without the phone's latency and are completed later, without a second export or training."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import export_cheaply, tiny_spec

from harness.cli import main
from harness.device.queue import FolderQueue
from harness.latency import exported as exported_module
from harness.records.quantity import Failed, Measured, Unavailable
from harness.records.store import Store
from harness.trials import run as run_module
from harness.trials.costs import counted, measure_latency
from harness.trials.outcomes import collect, record_of, with_current_costs

AGENT = Path(__file__).parent.parent / "device" / "agent_process.py"
CHIP = "latency.iphone.chip=A17 Pro"
QUICK = "latency.iphone.protocol={iterations: 15, cool_down_s: 0}"


@pytest.fixture
def queue(workplace):
    (workplace / "queue").mkdir()
    return FolderQueue(workplace / "queue")


@pytest.fixture
def settings(queue):
    return ["latency=iphone", f"latency.iphone.queue={queue.root}", CHIP, QUICK]


def run_agent(queue):
    """The Mac's process, on the double of a phone."""
    command = [sys.executable, AGENT, queue.root, "log", "never", "1", "--once", "--chip", "A17 Pro"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def latencies():
    return [record.quantities["latency_iphone"] for record in Store(Path("runs/store")).trials()]


@pytest.fixture
def cheap_export(monkeypatch):
    """A package of nothing but weights in place of a conversion; how often it was made."""
    return export_cheaply(monkeypatch, lambda module: next(module.parameters()).detach().numpy().tobytes())


@pytest.fixture
def no_export(monkeypatch):
    def forbid():
        monkeypatch.setattr(exported_module, "export_package", None)
        monkeypatch.setattr(run_module.Trial, "run", None)

    return forbid


@pytest.mark.slow
def test_a_study_ends_without_the_phone_and_its_report_fills_in(queue, settings, cheap_export, no_export):
    command = ["ablate", "tiny", *settings]
    assert main(command) == 0
    assert [type(quantity) for quantity in latencies()] == [Unavailable] * 2
    page = Path("runs/tiny/report.html")
    assert "waits for A17 Pro in the queue" in page.read_text()
    no_export()
    assert main(["report", "tiny"]) == 0  # nothing has come yet
    assert [type(quantity) for quantity in latencies()] == [Unavailable] * 2
    run_agent(queue)
    assert main(["report", "tiny"]) == 0
    quantities = latencies()
    assert [type(quantity) for quantity in quantities] == [Measured] * 2
    assert quantities[0].value == pytest.approx(12.1)
    assert {"chip": "A17 Pro", "latent": 8, "weight_bits": 16}.items() <= quantities[0].conditions.items()
    assert "waits for A17 Pro in the queue" not in page.read_text()
    assert main(command) == 0  # with what the store has
    assert latencies() == quantities


def test_the_studys_own_command_completes_its_records(queue, settings, cheap_export, no_export):
    spec = tiny_spec(*settings)
    at = (spec.store, spec.architecture, spec.settings, spec.latent)
    record = record_of(spec, "complete", {**counted(spec.architecture, spec.latent), **measure_latency(*at)})
    spec.store.put(record)
    waiting = record.quantities["latency_iphone"]
    assert waiting.awaits
    no_export()
    run_agent(queue)
    completed = with_current_costs(spec, record)
    assert isinstance(completed.quantities["latency_iphone"], Measured)
    assert spec.store.trial(record.key) == completed
    rest = {name: quantity for name, quantity in record.quantities.items() if name != "latency_iphone"}
    assert rest.items() <= completed.quantities.items()


def ask(spec):
    at = (spec.store, spec.architecture, spec.settings, spec.latent)
    return measure_latency(*at)["latency_iphone"]


def test_a_request_is_exported_once_and_asked_for_again_where_the_queue_lost_it(queue, settings, cheap_export):
    spec = tiny_spec(*settings)
    first, second = ask(spec), ask(spec)
    assert (first.awaits, len(cheap_export)) == (second.awaits, 1)
    next((queue.root / "pending").iterdir()).unlink()
    assert ask(spec).awaits == first.awaits
    assert len(cheap_export) == 2
    assert queue.find(first.awaits).state == "pending"


def test_a_queue_out_of_reach_leaves_the_records_and_the_report_alone(queue, settings, cheap_export, capsys):
    spec = tiny_spec(*settings)
    ask(spec)
    queue.root.rename(queue.root.with_name("elsewhere"))
    assert collect(spec.store) == 0
    assert "within reach" in ask(spec).reason
    assert main(["latency", "collect"]) == 0
    assert "0 numbers filled in" in capsys.readouterr().out


OF_THIS = {"chip": "A17 Pro", "latent": 8}


@pytest.mark.parametrize(
    ("before", "stays"),
    [
        (Measured(value=9.0, unit="ms", conditions=OF_THIS), True),
        (Measured(value=9.0, unit="ms", conditions={**OF_THIS, "chip": "A12"}), False),
        (Measured(value=9.0, unit="ms", conditions={**OF_THIS, "latent": 16}), False),
        (Failed(phase="coreml", message="of an earlier version"), False),
    ],
)
def test_out_of_reach_only_a_number_of_this_chip_and_latent_stays(before, stays, queue, settings):
    """Another study may have asked for another."""
    spec = tiny_spec(*settings)
    record = record_of(spec, "complete", {**counted(spec.architecture, spec.latent), "latency_iphone": before})
    queue.root.rename(queue.root.with_name("elsewhere"))
    assert (with_current_costs(spec, record).quantities["latency_iphone"] == before) is stays


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("tiny", "takes no name ('tiny')"),
        ("out=nowhere", "there is no store nowhere/store; say where the study wrote with out=FOLDER"),
        ("ouy=runs", "unknown setting 'ouy'"),
    ],
)
def test_collecting_where_nothing_can_be_is_a_sentence(word, sentence, workplace, capsys):
    assert main(["latency", "collect", word]) == 2
    assert sentence in capsys.readouterr().err
