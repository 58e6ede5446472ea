"""The store: what was put is there, whole, whatever was killed, full or forbidden."""

import dataclasses
import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.records.errors import UserError
from harness.records.quantity import Counted, Failed, Measured, Predicted, Quantity, Unavailable, known
from harness.records.record import CurvePoint, Measurement, Protocol, TrialRecord, measurement_key, trial_key
from harness.records.store import Store, write_atomic

QUANTITIES: dict[str, Quantity] = {
    "params": Counted(value=5, unit="parameters", conditions={"latent": 8}),
    "kid": Measured(value=0.25, unit="", low=0.2, high=0.3, spread="standard error", conditions={"N": 512}),
    "latency": Predicted(value=3.0, unit="ms", low=2.0, high=4.0, extrapolated=False),
    "latency_iphone": Unavailable(reason="needs an iPhone"),
    "fd": Failed(phase="quality", message="no memory"),
}


def trial(seed: int = 0, **changes: Any) -> TrialRecord:
    settings: dict[str, Any] = {
        "name": "base", "architecture": {"stages": [1, 2]}, "architecture_fingerprint": "a" * 16,
        "protocol": {"steps": 10}, "protocol_fingerprint": "b" * 16, "seed": seed, "state": "complete",
        "quantities": QUANTITIES, "curve": (CurvePoint(step=1, name="train_loss", value=0.5),),
    }  # fmt: skip
    return TrialRecord(**settings | changes)


CONTROL = Measurement(subject="control", settings={"control": "floor", "N": 512}, quantities={"kid": QUANTITIES["kid"]})


def test_what_was_put_comes_back_equal(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "store")
    store.put(trial())
    store.put(CONTROL)
    assert store.trial(trial().key) == trial()
    assert store.measurement(CONTROL.key) == CONTROL
    assert (list(store.trials()), list(store.measurements())) == ([trial()], [CONTROL])
    assert store.trial("0" * 16) is None


def test_the_same_architecture_protocol_and_seed_is_one_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for record in (trial(), trial(name="another name"), trial(state="failed", quantities={}), trial(seed=1)):
        store.put(record)
    assert {record.seed: record.state for record in store.trials()} == {0: "failed", 1: "complete"}


def test_keys_follow_identities_only() -> None:
    assert trial().key == trial(name="x", fidelity="full", parent="p", provenance={"host": "h"}).key
    assert trial().key == trial_key("a" * 16, "b" * 16, 0)
    assert len({trial().key, trial(seed=1).key, trial(protocol_fingerprint="c" * 16).key}) == 3
    assert CONTROL.key == measurement_key("control", {"N": 512, "control": "floor"})
    assert Protocol(sections={"a": {"x": 1}}).fingerprint == Protocol(sections={"a": {"x": 1.0}}).fingerprint


def test_deleting_a_record_leaves_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(trial())
    store.put(trial(seed=1))
    store.delete(trial())
    store.delete(trial())
    assert [record.seed for record in store.trials()] == [1]


def test_nothing_unknown_becomes_a_number() -> None:
    assert known(QUANTITIES["kid"]) == QUANTITIES["kid"]
    with pytest.raises(UserError, match="no value: needs an iPhone"):
        known(QUANTITIES["latency_iphone"])
    with pytest.raises(UserError, match="no value: quality failed: no memory"):
        known(QUANTITIES["fd"])


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(trial())
    path = tmp_path / "trials" / f"{trial().key}.json"
    for content in ("{", '{"key": "x", "seed": "one"}', "[]", path.read_text().replace('"counted"', '"guessed"')):
        path.write_text(content)
        with pytest.raises(UserError, match=f"{path.name} is not a record this version can read") as error:
            store.trial(trial().key)
        assert "\n" not in str(error.value)


PUTS_FOR_EVER = """
import itertools, sys
from pathlib import Path
from test_store import trial
from harness.records.record import CurvePoint
from harness.records.store import Store
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
for n in itertools.count():
    store.put(trial(seed=n % 5, curve=tuple(CurvePoint(step=n, name="x" * 50, value=float(n)) for _ in range(50))))
"""


def test_kill_minus_9_at_any_moment_leaves_whole_records_only(tmp_path: Path) -> None:
    chance = random.Random(3)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", PUTS_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
        for record in Store(tmp_path).trials():
            assert len({point.step for point in record.curve}) == 1, "one put, or the other, never both"
            assert len(record.curve) == 50
    assert len(list(Store(tmp_path).trials())) == 5


def test_a_record_that_is_no_text_is_named(tmp_path: Path) -> None:
    Store(tmp_path).put(trial())
    path = tmp_path / "trials" / f"{trial().key}.json"
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(UserError, match=f"{path.name} is not a record this version can read"):
        Store(tmp_path).trial(trial().key)


def test_a_write_in_place_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above on a broken store: half a record is an error, not a shorter record."""
    Store(tmp_path).put(trial())
    path = tmp_path / "trials" / f"{trial().key}.json"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="is not a record"):
        list(Store(tmp_path).trials())


def test_a_full_disk_keeps_the_old_record_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put(trial())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as error:
        store.put(dataclasses.replace(trial(), name="newer"))
    assert str(error.value).endswith("No space left on device; free some space and run the same command again")
    assert "\n" not in str(error.value)
    assert store.trial(trial().key) == trial()
    assert len(list((tmp_path / "trials").iterdir())) == 1, "no rubbish on a full disk"


def test_a_file_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*Not a directory; choose another place with out=FOLDER"):
        Store(tmp_path / "file").put(trial())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"cannot write .*Permission denied; choose another place"):
        Store(tmp_path).put(trial())


def test_a_shared_store_is_readable_as_the_umask_says(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644
