"""A chain from end to end: undisturbed, killed in several stages, edited; and two at once."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from tiny_chain import STAGES, chain, lay_out

from harness.chain.definition import chain_study
from harness.chain.runner import StageError, kept, read_log, run_chain
from harness.chain.stages import Chain
from harness.cli import main
from harness.commands.report import chain_report
from harness.processes.locks import DRIVER_LOCK, holder, lock_driver

WAIT_S = 900


@pytest.fixture
def place(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, cache)
    return tmp_path


def here(step, _lock) -> int:
    """The command in this process, which has imported all that it needs."""
    if step.output is None:
        return main(step.words)
    with kept(step.output) as file, contextlib.redirect_stdout(io.StringIO()) as printed:
        status = main(step.words)
        file.write(printed.getvalue().encode())
    return status


def run(name: str = "tiny", call=here, **more) -> tuple[Chain, list[str], list[str]]:
    """The chain, what it said, and the verbs that it ran."""
    done, said, verbs = Chain(*chain_study(name, [])), [], []

    def counted(step, lock) -> int:
        verbs.append(step.words[0] if step.words[0] != "train" else f"train {step.words[1].rpartition('/')[2]}")
        return call(step, lock)

    run_chain(done, said.append, call=counted, **more)
    return done, said, verbs


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_chain_runs_to_its_end_and_again_only_what_was_edited(place):
    done, _, verbs = run()
    assert verbs == [
        *("sweep", "promote", "train tiny-teacher.yaml", "train tiny-train.yaml", "sample"),
        *("train tiny-distil.yaml", "sample", "train tiny-few-steps.yaml", "sample", "sample", "evaluate", "evaluate"),
        *("export", "latency"),
    ]
    records = {stage: done.record(stage) for stage in done.study.trained}
    assert {stage: record.protocol["recipe"]["steps"] for stage, record in records.items()} == {
        "teacher": 4, "train": 8, "distil": 4, "few_steps": 3,
    }  # fmt: skip
    assert records["train"].parent == done.promoted.origin.trial
    objectives = [each.protocol.get("objective", {}).get("kind") for each in records.values()]
    assert objectives == [None, None, "distillation", "step_distillation"]
    (total,) = (json.loads(path.read_text()) for path in done.folder.glob("*total*.json"))
    assert [each["steps"] for each in total["totals"]] == [4, 2]
    page = chain_report(done, "harness chain tiny").read_text()
    for record in records.values():
        assert f'data-value="{record.quantities["kid"].value!r}"' in page
    assert f'data-value="{float(total["totals"][0]["latency_ms"])!r}"' in page
    assert page.count("data:image/png;base64,") >= 4, "of three networks, and of one twice"

    _, said, verbs = run()
    assert verbs == ["latency"], "a phone may have answered since"
    assert sum(line.endswith(", done") for line in said) == len(STAGES) - 1

    edited = chain(
        few_steps={**STAGES["few_steps"], "settings": {**STAGES["few_steps"]["settings"], "recipe.steps": 4}}
    )
    (place / "sweeps" / "chains" / "tiny.yaml").write_text(yaml.safe_dump(edited, sort_keys=False))
    again, said, verbs = run()
    assert verbs == ["train tiny-few-steps.yaml", "sample", "evaluate", "export", "latency"]
    assert any("few_steps was edited: recipe.steps: 3 -> 4; it runs again" in line for line in said)
    assert again.record("few_steps").key != records["few_steps"].key
    assert {stage: again.record(stage).key for stage in ("teacher", "train", "distil")} == {
        stage: records[stage].key for stage in ("teacher", "train", "distil")
    }


def begun() -> subprocess.Popen:
    words = [sys.executable, "-m", "harness", "chain", "tiny"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)


def when(is_so, process: subprocess.Popen) -> None:
    """Waits for it, while the process lives."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def three_trainings(place, out: str) -> None:
    """The chain's YAML: a teacher, a network, and what it learns from the other."""
    train = {"architecture": "tiny_base.yaml", "settings": {"recipe.steps": 8}}
    content = {**chain("teacher", "train", "distil", train=train), "pictures": 0}
    content["settings"] = {**content["settings"], "out": out}
    (place / "sweeps" / "chains" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_it_goes_on_to_the_same_keys(place, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    three_trainings(place, "runs")

    def driver_of(stage: str):
        return place / "runs" / f"train-tiny-{stage}" / "attempts" / DRIVER_LOCK

    teaching = begun()  # its command is killed
    when(lambda: holder(driver_of("teacher")), teaching)
    os.kill(holder(driver_of("teacher"))["pid"], signal.SIGKILL)
    _, said = teaching.communicate()
    assert teaching.returncode == 1
    assert "`harness train` of stage teacher was ended by SIGKILL; the same command goes on" in said

    training = begun()  # it is killed itself, and its command goes on alone
    when(lambda: holder(driver_of("train")), training)
    os.kill(training.pid, signal.SIGKILL)
    training.communicate()

    asked = begun()  # it is asked to end, and so is its command
    when(lambda: holder(driver_of("distil")), asked)
    os.kill(asked.pid, signal.SIGTERM)
    _, said = asked.communicate()
    assert asked.returncode == 128 + signal.SIGTERM
    assert said.endswith("the same command continues\n")

    continued, _, verbs = run()
    assert verbs in (["train tiny-distil.yaml"], []), "which may have come to its end before it heard"
    assert -signal.SIGKILL in {each.status for each in read_log(continued.folder)}

    (place / "others").mkdir()
    (place / "others" / "cache").symlink_to((place / "runs" / "cache").resolve())
    three_trainings(place, "others")
    undisturbed, _, _ = run()
    assert undisturbed.keys == continued.keys
    stages = ("teacher", "train", "distil")
    assert [undisturbed.record(each).curve for each in stages] == [continued.record(each).curve for each in stages]


def test_a_command_that_fails_ends_the_chain(place):
    with pytest.raises(StageError, match="`harness sweep` of stage search ended with status 2, as it says above"):
        run(call=lambda *_: 2)


def test_two_chains_do_not_run_at_once(place, refusal):
    with lock_driver(place / "runs" / "chains" / "tiny"):
        assert "another driver" in refusal("chain", "tiny")
