"""The queue's promises: one request for one content, one owner, nothing lost, nothing half-copied."""

import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from requests_for_tests import NUMBER, PHONE, QUICK, arrays, package, submitted

from harness.device.queue import PACKAGE, REFERENCE, FolderQueue
from harness.device.request import BenchmarkProtocol, package_hash
from harness.processes.lease import LeaseWatch
from harness.records.errors import UserError

LEASE_S = 0.3


@pytest.fixture
def queue(queue_folder):
    return FolderQueue(queue_folder, lease_s=LEASE_S)


def states(queue):
    return {entry.request.id: entry.state for entry in queue.entries()}


def test_a_queue_folder_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"there is no queue folder .*nowhere; make it \(mkdir\)"):
        FolderQueue(tmp_path / "nowhere")


def test_the_same_submission_is_one_request(queue, tmp_path):
    first = submitted(queue, tmp_path)
    assert submitted(queue, tmp_path) == first
    assert states(queue) == {first: "pending"}


def test_package_protocol_and_chip_each_make_another_request(queue, tmp_path):
    ids = {
        submitted(queue, tmp_path),
        submitted(queue, tmp_path, b"another network"),
        submitted(queue, tmp_path, protocol=replace(QUICK, compute_unit="ALL")),
        submitted(queue, tmp_path, chip="A17 Pro"),
    }
    assert len(ids) == len(states(queue)) == 4


def test_what_travels_arrives(queue, tmp_path):
    request = queue.find(submitted(queue, tmp_path, name="mqa", conditions={"latent": 8})).request
    folder = queue.folder(request)
    assert (folder / PACKAGE / "Data/com.apple.CoreML/weights/weight.bin").read_bytes() == b"a network"
    with np.load(folder / REFERENCE) as file:
        assert (file["out"] == 2).all()
    assert (request.name, request.conditions, request.protocol) == ("mqa", {"latent": 8}, QUICK)


def test_a_claim_has_one_owner(queue, tmp_path):
    request = submitted(queue, tmp_path)
    entries = []
    agents = [threading.Thread(target=lambda i=i: entries.append(queue.claim(f"agent{i}", ""))) for i in range(8)]
    [agent.start() for agent in agents]
    [agent.join() for agent in agents]
    won = [entry for entry in entries if entry is not None]
    assert len(won) == 1
    assert states(queue) == {request: "claimed"}
    assert won[0].request.attempts == 1


def test_a_request_goes_to_the_chip_it_asks_for(queue, tmp_path):
    submitted(queue, tmp_path, chip="A17 Pro")
    assert queue.claim("agent", "A15") is None
    assert queue.claim("agent", "") is None
    assert queue.claim("agent", "a17pro") is not None


@pytest.mark.parametrize("missing", ["reference.npz", "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"])
def test_a_package_that_has_not_arrived_in_full_is_not_claimed(queue, tmp_path, missing):
    request = queue.find(submitted(queue, tmp_path)).request
    file = queue.folder(request) / missing
    content = file.read_bytes()
    file.unlink()
    assert queue.claim("agent", "") is None
    file.write_bytes(content[:-1])
    assert queue.claim("agent", "") is None
    file.write_bytes(content)
    assert queue.claim("agent", "") is not None


def test_a_submission_that_is_cut_off_leaves_nothing_to_claim(queue, tmp_path, monkeypatch):
    """The package's files are there before the request is."""
    monkeypatch.setattr(FolderQueue, "_write", lambda *_: (_ for _ in ()).throw(OSError("cut off")))
    with pytest.raises(OSError, match="cut off"):
        submitted(queue, tmp_path)
    monkeypatch.undo()
    assert queue.claim("agent", "") is None
    submitted(queue, tmp_path)
    assert queue.claim("agent", "") is not None


def test_a_half_copied_folder_never_has_the_packages_name(queue, tmp_path, monkeypatch):
    def cut_off(*_, **__):
        raise OSError("cut off")

    monkeypatch.setattr(np, "savez", cut_off)
    with pytest.raises(OSError, match="cut off"):
        submitted(queue, tmp_path)
    assert not list((queue.root / "packages").iterdir())


def test_an_answer_is_found_and_the_request_closed(queue, tmp_path):
    request = submitted(queue, tmp_path)
    assert queue.answer(request) is None
    queue.finish(queue.claim("agent", "A17 Pro"), PHONE, NUMBER)
    assert queue.answer(request) == NUMBER
    assert states(queue) == {request: "answered"}
    assert queue.claim("agent", "") is None


def test_an_answer_serves_every_request_for_its_content_that_accepts_the_chip(queue, tmp_path):
    submitted(queue, tmp_path)
    queue.finish(queue.claim("agent", "A17 Pro"), PHONE, NUMBER)
    assert queue.answer(submitted(queue, tmp_path, chip="A17 Pro")) == NUMBER
    assert queue.answer(submitted(queue, tmp_path, chip="A15")) is None


def test_the_first_result_stands(queue, tmp_path):
    request = submitted(queue, tmp_path)
    entry = queue.claim("agent", "")
    queue.finish(entry, PHONE, NUMBER)
    queue.finish(entry, PHONE, replace(NUMBER, value=99.0))
    assert queue.answer(request).value == 12


def test_another_build_of_the_system_is_another_result(queue, tmp_path):
    submitted(queue, tmp_path)
    entry = queue.claim("agent", "")
    queue.finish(entry, PHONE, NUMBER)
    assert queue.result(entry.request, PHONE) is not None
    assert queue.result(entry.request, replace(PHONE, os_build="22C1")) is None


def test_a_removed_result_is_asked_for_again(queue, tmp_path):
    request = submitted(queue, tmp_path)
    queue.finish(queue.claim("agent", ""), PHONE, NUMBER)
    shutil.rmtree(queue.root / "results")
    assert submitted(queue, tmp_path) == request
    assert queue.claim("agent", "") is not None


def test_a_dead_agents_claim_returns_and_a_living_ones_stays(queue, tmp_path):
    request = submitted(queue, tmp_path)
    with queue.alive() as owner:
        queue.claim(owner, "")
        deadline = time.monotonic() + 3 * LEASE_S
        while time.monotonic() < deadline:
            assert queue.release_dead_claims() == []
            time.sleep(LEASE_S / 10)
        left = (queue.heartbeats / owner).read_bytes()
    (queue.heartbeats / owner).write_bytes(left)  # as kill -9 leaves it
    assert queue.release_dead_claims() == []
    time.sleep(1.2 * LEASE_S)
    assert queue.release_dead_claims() == [request]
    assert states(queue) == {request: "pending"}
    assert not list(queue.heartbeats.iterdir())


def test_first_sight_of_a_claim_gets_the_benefit_of_the_doubt(queue_folder):
    watch = LeaseWatch(queue_folder / "long gone", LEASE_S, may_arrive_late=True)
    assert watch.is_fresh()
    assert not watch.is_seen_alive()
    time.sleep(1.2 * LEASE_S)
    assert not watch.is_fresh()


def test_a_stalled_agent_that_lost_its_claim_disturbs_nobody(queue, tmp_path):
    """Its number counts if it is the first; the request belongs to the other, who finds the number."""
    request = submitted(queue, tmp_path)
    stalled = queue.claim("stalled", "")
    queue.release(replace(stalled))  # as `release_dead_claims` does
    other = queue.claim("other", "")
    queue.finish(stalled, PHONE, NUMBER)
    assert states(queue) == {request: "claimed"}
    assert queue.result(other.request, PHONE).quantity == NUMBER
    queue.close(other)
    assert states(queue) == {request: "answered"}


def test_what_nobody_tried_comes_before_what_failed(queue, tmp_path):
    first = submitted(queue, tmp_path, b"first")
    queue.release(queue.claim("agent", ""), "the phone restarted")
    second = submitted(queue, tmp_path, b"second")
    entry = queue.claim("agent", "")
    assert entry.request.id == second
    assert queue.claim("agent", "").request.id == first
    assert queue.find(first).request.errors == ("the phone restarted",)


def test_what_an_agent_says_is_seen_at_the_other_end(queue):
    queue.post_status("unavailable: needs an iPhone")
    assert len(queue.agent_messages()) == 1
    assert "needs an iPhone" in queue.agent_messages()[0]
    queue.post_status("")
    assert queue.agent_messages() == []


@pytest.fixture(scope="module")
def specification():
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.specificationVersion = 8
    for name, value in (("date", "today"), ("source", "torch")):
        model.description.metadata.userDefined[name] = value
    return model


def test_the_hash_is_of_what_a_package_computes(specification, tmp_path):
    """Not of the day it was converted, nor of the random identifiers beside."""
    path = package(tmp_path)
    program = path / "Data/com.apple.CoreML/model.mlmodel"
    program.write_bytes(specification.SerializeToString())
    first = package_hash(path)
    (path / "Manifest.json").write_text('{"random": 1}')
    specification.description.metadata.userDefined["date"] = "tomorrow"
    program.write_bytes(specification.SerializeToString())
    assert package_hash(path) == first
    specification.specificationVersion = 9
    program.write_bytes(specification.SerializeToString())
    assert package_hash(path) != first


def test_weights_are_in_the_hash(specification, tmp_path):
    hashes = set()
    for content in (b"some", b"other"):
        path = package(tmp_path, content)
        (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(specification.SerializeToString())
        hashes.add(package_hash(path))
    assert len(hashes) == 2


def test_no_package_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is no Core ML package"):
        package_hash(tmp_path)
    with pytest.raises(UserError, match="is no Core ML specification"):
        package_hash(package(tmp_path))


def test_default_protocols_and_arrays_are_accepted(queue, tmp_path):
    assert submitted(queue, tmp_path, protocol=BenchmarkProtocol()) in states(queue)
    assert arrays()["x"].dtype == np.float32


@pytest.mark.parametrize("torn", [b"", b'{"says": "ca', b'{"says": "caf\xc3', bytes(60), b"[1]"])
def test_a_message_that_was_torn_says_nothing(queue, torn):
    (queue.root / "agents").mkdir(exist_ok=True)
    (queue.root / "agents" / "mac.json").write_bytes(torn)
    assert queue.agent_messages() == []


@pytest.mark.parametrize("torn", [b"", b'{"id": "caf\xc3', bytes(60)])
def test_a_request_that_was_torn_is_not_there_and_one_of_another_kind_is_named(queue, torn):
    place = queue.root / "pending" / "0.json"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(torn)
    assert list(queue.entries()) == []
    place.write_text('{"id": 1}')
    with pytest.raises(UserError, match=r"0\.json is not a file that this version can read .*; move it away"):
        list(queue.entries())
