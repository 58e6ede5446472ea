"""The agent as processes: killed at every point nothing is lost, and nothing is measured again once it was answered."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from requests_for_tests import PHONE, QUICK, StubTarget, submitted

from harness.device import agent as agent_module
from harness.device.agent import ATTEMPTS, Agent
from harness.device.apple import NoDeviceError
from harness.device.queue import FolderQueue
from harness.processes.lease import LeaseWatch
from harness.records.errors import UserError
from harness.records.quantity import Failed, Measured

PROCESS = Path(__file__).parent / "agent_process.py"
LEASE_S = "1.0"


@pytest.fixture
def queue(queue_folder):
    return FolderQueue(queue_folder, lease_s=float(LEASE_S))


@pytest.fixture
def start(queue_folder, tmp_path):
    """Starts agents' processes; those that still run at the end are killed."""
    started = []

    def start(point="never", *flags, lease_s=LEASE_S):
        command = [sys.executable, PROCESS, queue_folder, tmp_path / "log", point, lease_s, *flags]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines(tmp_path, what):
    """How often `begins` or `ended` was said of each request."""
    log = (tmp_path / "log").read_text().split("\n") if (tmp_path / "log").exists() else []
    return Counter(words[2] for line in log if (words := line.split()) and words[1] == what)


def states(queue):
    return Counter(entry.state for entry in queue.entries())


def ended(process, timeout=60):
    output, complained = process.communicate(timeout=timeout)
    return process.returncode, output + complained


@pytest.mark.parametrize(
    ("point", "measured_again"),
    [("after_claim", 0), ("while_measuring", 1), ("before_result", 1), ("after_result", 0)],
)
def test_a_killed_agent_loses_nothing_and_an_answer_is_measured_once(start, queue, tmp_path, point, measured_again):
    requests = [submitted(queue, tmp_path, name.encode(), name=name) for name in ("first", "second")]
    assert ended(start(point))[0] == -signal.SIGKILL
    assert states(queue)["claimed"] == 1
    began = lines(tmp_path, "begins")
    assert ended(start("never", "--once"))[0] == 0
    assert states(queue) == {"answered": 2}
    assert all(isinstance(queue.answer(request), Measured) for request in requests)
    again = lines(tmp_path, "begins") - began
    assert sum((lines(tmp_path, "begins") - Counter(requests)).values()) == measured_again
    assert point != "after_result" or requests[0] not in again
    assert not list(queue.heartbeats.iterdir())


def test_two_agents_at_one_queue_measure_everything_once(start, queue, tmp_path):
    requests = [submitted(queue, tmp_path, f"network {i}".encode()) for i in range(12)]
    agents = [start("never", "--once", lease_s="6") for _ in range(2)]  # long: a busy machine is not a dead one
    assert [ended(agent)[0] for agent in agents] == [0, 0]
    assert lines(tmp_path, "begins") == Counter(requests)
    assert states(queue) == {"answered": 12}


def test_without_the_lease_a_living_agents_request_would_be_measured_twice(queue, tmp_path, monkeypatch):
    """The mutation: an owner that beats is taken for dead."""

    def measured_beside_a_living_agent():
        submitted(queue, tmp_path, b"first")
        with queue.alive() as other:
            entry = queue.claim(other, "A17 Pro")
            measured = []
            monkeypatch.setattr(
                Agent, "_measured", lambda _self, claimed, _protocol: measured.append(claimed) or NUMBER
            )
            deadline = time.monotonic() + 1.5 * queue.lease_s

            def sleep(_):
                time.sleep(0.05)
                if time.monotonic() > deadline:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                Agent(queue=queue, target=StubTarget(), sleep=sleep, report=lambda _line: None).run()
            queue.release(entry)
        return len(measured)

    assert measured_beside_a_living_agent() == 0
    monkeypatch.setattr(LeaseWatch, "is_fresh", lambda *_: False)
    assert measured_beside_a_living_agent() == 1


NUMBER = Measured(value=12.0, unit="ms", low=11.0, high=13.0)


def test_a_submitter_and_an_agent_that_wait_for_each_other_meet(start, queue, tmp_path):
    """The agent is there first, and the answer comes without a restart of either."""
    agent = start()
    time.sleep(0.5)
    request = submitted(queue, tmp_path)
    deadline = time.monotonic() + 30
    while queue.answer(request) is None:
        assert time.monotonic() < deadline, ended(agent)
        time.sleep(0.05)
    agent.send_signal(signal.SIGINT)
    status, output = ended(agent)
    assert status == 130
    assert "stopped; the same command continues" in output


def test_ctrl_c_gives_the_request_back_at_once(queue, tmp_path, monkeypatch):
    request = submitted(queue, tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Agent, "_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Agent(queue=queue, target=StubTarget(), report=lambda _line: None).run()
    assert queue.find(request).state == "pending"
    assert not list(queue.heartbeats.iterdir())


@pytest.fixture
def agent(queue):
    lines = []
    new_agent = Agent(queue=queue, target=StubTarget(), once=True, report=lines.append, sleep=lines.append)
    new_agent.lines = lines
    return new_agent


def test_no_device_is_said_and_loses_no_request(queue, tmp_path, agent, monkeypatch):
    request = submitted(queue, tmp_path)

    def absent(_self):
        raise NoDeviceError("needs an iPhone: connect one")

    monkeypatch.setattr(StubTarget, "identify", absent)
    assert agent.run() == 1
    assert "unavailable: needs an iPhone" in queue.agent_messages()[0]
    assert queue.find(request).state == "pending"
    monkeypatch.undo()
    monkeypatch.setattr(Agent, "_measured", lambda *_: NUMBER)
    assert agent.run() == 0
    assert queue.agent_messages() == []
    assert queue.answer(request) == NUMBER


def test_what_an_earlier_agent_said_is_gone_once_the_next_one_finds_the_phone(queue, agent):
    queue.post_status("unavailable: could not sign the app")
    assert agent.run() == 0
    assert queue.agent_messages() == []


def test_a_phone_that_is_locked_again_and_again_costs_no_attempt(queue, tmp_path, agent, monkeypatch):
    """coremltools says so in an error of its own, in the middle of a measurement; a night of it is no result."""
    request = submitted(queue, tmp_path)
    errors = [RuntimeError("[Error Code 1] b'ERROR: The device is locked.'")] * (2 * ATTEMPTS)
    errors += [RuntimeError("the first load took too long")]

    def measured(*_):
        if errors:
            raise errors.pop(0)
        return NUMBER

    monkeypatch.setattr(Agent, "_measured", measured)
    for _ in range(2 * ATTEMPTS):
        assert agent.run() == 1
        assert (queue.find(request).state, queue.find(request).request.errors) == ("pending", ())
    assert "needs the iPhone unlocked" in queue.agent_messages()[0]
    assert agent.run() == 0
    assert queue.answer(request) == NUMBER


def test_what_only_a_person_can_mend_ends_the_agent_and_is_seen_at_the_other_end(queue, tmp_path, agent, monkeypatch):
    request = submitted(queue, tmp_path)

    def unsigned(*_):
        raise UserError("could not sign the app")

    monkeypatch.setattr(Agent, "_measured", unsigned)
    with pytest.raises(UserError, match="could not sign"):
        agent.run()
    assert "unavailable: could not sign the app" in queue.agent_messages()[0]
    assert queue.find(request).state == "pending"


def test_an_error_is_tried_again_and_then_is_the_answer(queue, tmp_path, agent, monkeypatch):
    bad, good = submitted(queue, tmp_path, b"bad"), submitted(queue, tmp_path, b"good")
    tried = Counter()

    def measured(_self, entry, _protocol):
        tried[entry.request.id] += 1
        if entry.request.id == bad:
            raise RuntimeError("the app on the phone ended")
        return NUMBER

    monkeypatch.setattr(Agent, "_measured", measured)
    assert agent.run() == 0
    assert tried == {bad: ATTEMPTS, good: 1}
    assert queue.answer(good) == NUMBER
    answer = queue.answer(bad)
    assert isinstance(answer, Failed)
    assert "the app on the phone ended (the last of 3 attempts)" in answer.message


def test_a_phone_that_hangs_is_given_up_after_a_time(queue, tmp_path, agent, monkeypatch):
    """coremltools waits for devicectl in a thread, without a limit."""
    freed = threading.Event()

    async def hangs(*_):
        await asyncio.get_running_loop().run_in_executor(None, freed.wait, 60)

    request = submitted(queue, tmp_path)
    monkeypatch.setattr(agent_module, "benchmark", hangs)
    agent.timeout_s = 0.05
    started = time.monotonic()
    assert agent.run() == 0
    assert time.monotonic() - started < 20
    freed.set()
    assert "no answer within 0.05 s" in queue.answer(request).message


def test_the_device_rests_between_two_models(queue, tmp_path, agent, monkeypatch):
    for name in (b"one", b"two", b"three"):
        submitted(queue, tmp_path, name, protocol=replace(QUICK, cool_down_s=60.0))
    monkeypatch.setattr(Agent, "_measured", lambda *_: NUMBER)
    agent.run()
    rests = [line for line in agent.lines if isinstance(line, float)]
    assert len(rests) == 2
    assert all(59 < rest <= 60 for rest in rests)


def test_another_build_of_the_system_is_measured_anew_only_if_asked(queue, tmp_path, agent, monkeypatch):
    """Results are kept by build; a request that was answered stays answered."""
    submitted(queue, tmp_path)
    measured = []
    monkeypatch.setattr(Agent, "_measured", lambda *_: measured.append(1) or NUMBER)
    agent.run()
    monkeypatch.setattr(StubTarget, "identity", replace(PHONE, os_build="22C1"))
    agent.run()
    assert len(measured) == 1
    submitted(queue, tmp_path, chip="A17 Pro")  # answered by the number that is there
    agent.run()
    assert len(measured) == 2  # the phone's new build


def test_requests_for_another_chip_are_explained(queue, tmp_path, agent):
    submitted(queue, tmp_path, chip="A15")
    assert agent.run() == 0
    assert "requests wait for A15, and this device is called A17 Pro" in queue.agent_messages()[0]


def test_help_and_mistakes_of_the_command_line_need_no_mac(capsys):
    from harness.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["latency", "agent", "--help"])
    assert ended.value.code == 0
    assert "--chip" in capsys.readouterr().out
    assert main(["latency", "agent", "nowhere"]) == 2
    assert "must be signed: give --team" in capsys.readouterr().err
    assert main(["latency", "agent", "nowhere", "--team", "ABCDE12345"]) == 2
    assert "there is no queue folder nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--lease-s", "0"], "--lease-s is above 0, not 0"),
        (["--poll-s", "-1"], "--poll-s is above 0, not -1"),
        (["--timeout-min", "nan"], "--timeout-min is above 0, not nan"),
        (["chip=A15"], "takes flags, no settings"),
    ],
)
def test_wrong_flags_are_refused_in_a_sentence(queue, flags, sentence, capsys):
    from harness.cli import main

    assert main(["latency", "agent", str(queue.root), "--team", "ABCDE12345", *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_the_queue_is_listed(queue, tmp_path, agent, monkeypatch, capsys):
    from harness.cli import main

    submitted(queue, tmp_path, b"one", name="mqa")
    submitted(queue, tmp_path, b"two", chip="A15")
    monkeypatch.setattr(Agent, "_measured", lambda *_: NUMBER)
    agent.run()
    assert main(["latency", "queue", str(queue.root)]) == 0
    shown = capsys.readouterr().out
    assert "12.00 ms" in shown
    assert "mqa" in shown
    assert "requests wait for A15" in shown
    assert main(["latency", "queue", str(queue.root), "chip=A15"]) == 2
    assert "takes no settings ('chip=A15')" in capsys.readouterr().err
