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
from harness.records.store import Store

WAIT_S = 600


@pytest.fixture
def place(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, cache)
    return tmp_path


def here(step) -> int:
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

    def counted(step) -> int:
        verbs.append(step.words[0] if step.words[0] != "train" else f"train {step.words[1].rpartition('/')[2]}")
        return call(step)

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


def begun(*more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "harness", "chain", "tiny", "--until", "distil", *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)


def when(is_so, process: subprocess.Popen) -> None:
    """Waits for it, while the process lives."""
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_it_goes_on_to_the_same_keys(place, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    content = {**chain(), "pictures": 0}
    (place / "sweeps" / "chains" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    store, attempts = Store(place / "runs" / "store"), place / "runs" / "train-tiny-train" / "attempts"

    searching = begun()  # its command is killed
    when(lambda: any(store.trials()), searching)
    (search,) = (place / "runs").glob("tiny-search-*")
    os.kill(holder(search / "attempts" / DRIVER_LOCK)["pid"], signal.SIGKILL)
    _, said = searching.communicate()
    assert searching.returncode == 1
    assert "`harness sweep` of stage search was ended by SIGKILL; the same command goes on" in said

    training = begun()  # it is killed itself, and its command goes on alone
    when(lambda: (attempts / DRIVER_LOCK).exists(), training)
    os.kill(training.pid, signal.SIGKILL)
    training.communicate()

    asked = begun()  # it is asked to end, and so is its command
    when(lambda: any(each.name == "tiny-train" for each in store.trials()), asked)
    os.kill(asked.pid, signal.SIGTERM)
    _, said = asked.communicate()
    assert asked.returncode == 128 + signal.SIGTERM
    assert said.endswith("the same command continues\n")

    continued, _, verbs = run(until="distil")
    assert "sweep" not in verbs
    assert continued.record("distil").state == "complete"
    keys = continued.keys
    log = read_log(continued.folder)
    assert {each.status for each in log} >= {0, -signal.SIGKILL}

    undisturbed, _, _ = undisturbed_run(place)
    assert undisturbed.keys == keys
    assert [undisturbed.record(stage).curve for stage in keys] == [continued.record(stage).curve for stage in keys]


def undisturbed_run(place):
    content = yaml.safe_load((place / "sweeps" / "chains" / "tiny.yaml").read_text())
    content["settings"]["out"] = "others"
    (place / "others").mkdir()
    (place / "others" / "cache").symlink_to((place / "runs" / "cache").resolve())
    (place / "sweeps" / "chains" / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return run(until="distil")


def test_a_command_that_fails_ends_the_chain(place):
    with pytest.raises(StageError, match="`harness sweep` of stage search ended with status 2, as it says above"):
        run(call=lambda _: 2)


def test_two_chains_do_not_run_at_once(place, refusal):
    with lock_driver(place / "runs" / "chains" / "tiny"):
        assert "another driver" in refusal("chain", "tiny")
