"""Merging stores: nothing whole is lost, nothing half appears; whatever the order or the interruption, it converges."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import merge as merge_module
from harness.records.errors import UserError
from harness.records.merge import Merged, Rule, keys_of, merge, stores_to_merge
from harness.records.quantity import Measured
from harness.records.record import Measurement, TrialRecord
from harness.records.store import Store, write_atomic

FILE = "ema.safetensors"


def trial(seed: int = 0, **changes: Any) -> TrialRecord:
    plain: dict[str, Any] = {
        "name": f"rung-{seed}", "architecture": {"width": 8}, "architecture_fingerprint": "a" * 16,
        "protocol": {"steps": 10}, "protocol_fingerprint": "b" * 16, "seed": seed, "state": "complete",
        "quantities": {"kid": Measured(value=0.5, unit="1")}, "artifacts": {FILE: FILE},
        "provenance": {"finished": "2026-01-01T00:00:00+00:00"},
    }  # fmt: skip
    return TrialRecord(**plain | changes)


def put(store: Store, record: TrialRecord | Measurement, content: bytes = b"weights") -> None:
    for name in record.artifacts.values():
        write_atomic(store.artifact(record.key, name), content)
    store.put(record)


def merged(theirs: Store, ours: Store, **more: Any) -> dict[str, Merged]:
    return {one.key: one for one in merge(theirs, ours, **more)}


def content(store: Store) -> dict[str, bytes]:
    return {
        path.relative_to(store.root).as_posix(): path.read_bytes() for path in store.root.rglob("*") if path.is_file()
    }


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Store, Store]:
    """Theirs and ours."""
    return Store(tmp_path / "theirs" / "store"), Store(tmp_path / "ours" / "store")


def test_records_measurements_and_artifacts_arrive_and_once_more_changes_nothing(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    put(theirs, trial(0))
    put(theirs, trial(1, state="failed", artifacts={}))
    control = Measurement(subject="control", settings={"n": 1}, quantities={}, artifacts={"grid": "grid.png"})
    put(theirs, control, b"picture")
    assert {one.action for one in merged(theirs, ours).values()} == {"added"}
    assert content(ours) == content(theirs)
    before = {path: path.stat() for path in ours.root.rglob("*")}
    assert {one.action for one in merged(theirs, ours).values()} == {"equal"}
    assert {path: path.stat() for path in ours.root.rglob("*")} == before


def test_a_conflict_stays_as_it_is_and_names_what_differs(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    put(theirs, trial(0, quantities={"kid": Measured(value=0.7, unit="1")}))
    put(theirs, trial(1))
    put(ours, trial(0))
    before = ours.trial(trial(0).key)
    records = merged(theirs, ours)
    assert records[trial(0).key].action == "conflict"
    assert [str(one) for one in records[trial(0).key].differing] == ["quantities.kid.value: 0.5 -> 0.7"]
    assert ours.trial(trial(0).key) == before
    assert ours.trial(trial(1).key) == trial(1), "the others are merged"


def test_equal_records_with_other_weights_are_a_conflict(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    put(theirs, trial(0), b"weights")
    put(ours, trial(0), b"WEIGHTS")
    (one,) = merged(theirs, ours).values()
    assert (one.action, [each.path for each in one.differing]) == ("conflict", [f"artifacts/{FILE}"])
    (one,) = merged(theirs, ours, keep="theirs").values()
    assert one.action == "replaced"
    assert content(ours) == content(theirs)


@pytest.mark.parametrize(
    ("here", "there", "keep", "kept"),
    [
        ("2026-01-01", "2026-01-02", "newer", "there"),
        ("2026-01-02", "2026-01-01", "newer", "here"),
        ("2026-01-01", "2026-01-02", "ours", "here"),
        ("2026-01-02", "2026-01-01", "theirs", "there"),
        ("2026-01-01", "2026-01-01", "newer", None),
        ("2026-01-01", "never", "newer", None),
    ],
)
def test_a_rule_settles_what_it_can(pair: tuple[Store, Store], here: str, there: str, keep: Rule, kept: str) -> None:
    theirs, ours = pair
    put(ours, trial(name="here", provenance={"finished": here}), b"here")
    put(theirs, trial(name="there", provenance={"finished": there}), b"there")
    (one,) = merged(theirs, ours, keep=keep).values()
    assert one.is_settled == (kept is not None)
    record = ours.trial(trial().key)
    assert record is not None
    assert record.name == (kept or "here")
    assert ours.artifact(trial().key, FILE).read_text() == record.name, "a record and its artifacts go together"


@pytest.mark.parametrize("state", ["failed", "rejected"])
@pytest.mark.parametrize("keep", [None, "ours", "theirs", "newer"])
def test_a_complete_trial_beats_one_that_is_not_whatever_the_rule(
    pair: tuple[Store, Store], state: str, keep: Rule | None
) -> None:
    incomplete = {"state": state, "artifacts": {}, "provenance": {"finished": "2027-01-01T00:00:00+00:00"}}
    for number, (theirs, ours) in enumerate((pair, pair[::-1])):
        seed = number  # a key of its own each time
        put(theirs, trial(seed))
        put(ours, trial(seed, **incomplete))
        assert merged(theirs, ours, keep=keep)[trial(seed).key].why == f"complete there, {state} here"
        assert ours.trial(trial(seed).key) == trial(seed)
        put(ours, trial(seed, **incomplete))
        assert merged(ours, theirs, keep=keep)[trial(seed).key].why == f"complete here, {state} there"
        assert theirs.trial(trial(seed).key) == trial(seed)
        ours.put(trial(seed))


def test_damaged_records_are_named_and_the_others_merged(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    for seed in range(6):
        put(theirs, trial(seed))
    files = [theirs.root / "trials" / f"{trial(seed).key}.json" for seed in range(6)]
    files[0].write_text("{half a rec")
    files[1].write_bytes(files[1].read_bytes()[:-40])
    shutil.copy(files[5], files[2])  # another record under this name
    theirs.artifact(trial(3).key, FILE).unlink()
    put(theirs, trial(4, artifacts={FILE: "../../outside"}))
    records = merged(theirs, ours)
    assert [records[trial(seed).key].action for seed in range(6)] == ["damaged"] * 5 + ["added"]
    assert "is not a record this version can read" in records[trial(0).key].why
    assert f"holds the record {trial(5).key}" in records[trial(2).key].why
    assert f"its artifact {FILE} is not there" in records[trial(3).key].why
    assert "'../../outside', which is no file of its own folder" in records[trial(4).key].why
    assert list(ours.trials()) == [trial(5)]


def test_what_is_damaged_here_is_named_and_not_overwritten(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    put(theirs, trial())
    put(ours, trial())
    path = ours.root / "trials" / f"{trial().key}.json"
    path.write_text("{half")
    (one,) = merged(theirs, ours, keep="theirs").values()
    assert one.action == "damaged"
    assert str(path) in one.why
    assert path.read_text() == "{half"


def test_an_artifact_that_was_lost_here_is_filled_in(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    put(theirs, trial())
    merged(theirs, ours)
    ours.artifact(trial().key, FILE).unlink()
    (one,) = merged(theirs, ours).values()
    assert (one.action, one.why) == ("completed", f"{FILE} had gone here")
    assert content(ours) == content(theirs)


def test_a_dry_run_says_the_same_and_writes_nothing(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    for seed in range(3):
        put(theirs, trial(seed))
    put(ours, trial(0, state="failed", artifacts={}))
    put(ours, trial(1, name="other"))
    before = content(ours)
    dry = merged(theirs, ours, keep="newer", dry_run=True)
    assert content(ours) == before
    assert dry == merged(theirs, ours, keep="newer")


@pytest.mark.parametrize(
    ("source", "out"), [("a", "a"), ("a/store", "a"), ("a", "a/b"), ("a/store", "a/store/c"), ("a", "link")]
)
def test_one_place_or_one_in_the_other_is_refused(tmp_path: Path, source: str, out: str) -> None:
    put(Store(tmp_path / "a" / "store"), trial())
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(UserError, match="are one place, or one lies in the other"):
        stores_to_merge(tmp_path / source, tmp_path / out)


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no store in .*; give a study's output folder"):
        stores_to_merge(tmp_path / "nowhere", tmp_path / "ours")


# properties

VARIANTS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["complete", "failed", "rejected"]),
        "name": st.sampled_from(["one", "two"]),
        "provenance": st.sampled_from([{}, {"finished": "2026-01-01"}, {"finished": "2026-01-02"}]),
    }
)
CONTENTS = st.dictionaries(st.integers(0, 3), VARIANTS)
RULES = st.sampled_from([None, "ours", "theirs", "newer"])


def filled(root: Path, records: dict[int, dict[str, Any]]) -> Store:
    store = Store(root)
    for seed, changes in records.items():
        files = {FILE: FILE} if changes["state"] == "complete" else {}
        put(store, trial(seed, artifacts=files, **changes), repr(changes).encode())
    return store


@settings(max_examples=40, deadline=None)
@given(CONTENTS, CONTENTS, RULES)
def test_merging_twice_is_merging_once(here: dict[int, Any], there: dict[int, Any], keep: Rule | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = filled(Path(folder, "ours"), here), filled(Path(folder, "theirs"), there)
        merged(theirs, ours, keep=keep)
        before, given_ = content(ours), content(theirs)
        assert not {one.action for one in merged(theirs, ours, keep=keep).values()} & {"added", "replaced", "completed"}
        assert content(ours) == before
        assert content(theirs) == given_, "theirs is only read"
        whole = {record.key for record in ours.trials() if record.state == "complete"}
        assert whole >= {trial(seed).key for seed, one in {**here, **there}.items() if one["state"] == "complete"}


@settings(max_examples=40, deadline=None)
@given(CONTENTS, CONTENTS, CONTENTS)
def test_the_order_of_two_merges_without_conflicts_does_not_matter(
    here: dict[int, Any], one: dict[int, Any], other: dict[int, Any]
) -> None:
    """Where complete beats what is not, too: only what was a conflict in one of the orders is left out."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = filled(Path(folder, "first"), one), filled(Path(folder, "second"), other)
        ends, settled = [], True
        for number, order in enumerate(((first, second), (second, first))):
            ours = filled(Path(folder, f"ours-{number}"), here)
            settled &= all(each.is_settled for theirs in order for each in merge(theirs, ours))
            ends.append(content(ours))
        assert not settled or ends[0] == ends[1]


# interruptions

MERGES = """
import sys
from pathlib import Path
from harness.records.merge import merge
from harness.records.store import Store
print("ready", flush=True)
for one in merge(Store(Path(sys.argv[1])), Store(Path(sys.argv[2]))):
    assert one.is_settled
"""


def test_kill_minus_9_at_any_moment_leaves_whole_records_and_the_next_merge_ends_it(pair: tuple[Store, Store]) -> None:
    theirs, ours = pair
    for seed in range(60):
        put(theirs, trial(seed), os.urandom(200_000))
    chance, interrupted = random.Random(1), 0
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", MERGES, str(theirs.root), str(ours.root)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.04))
            process.send_signal(signal.SIGKILL)
        for record in ours.trials():
            assert ours.artifact(record.key, FILE).stat().st_size == 200_000, "artifacts come before their record"
        interrupted += len(ours.keys(TrialRecord)) < 60
    assert interrupted > 0, "never killed in the middle: this proves nothing"
    merged(theirs, ours)
    visible = {name: data for name, data in content(ours).items() if not Path(name).name.startswith(".")}
    assert visible == content(theirs)


def test_a_record_before_its_artifacts_would_be_seen(
    pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the two writes, seen from an interruption between them."""
    theirs, ours = pair
    put(theirs, trial())

    def interrupted(_source: Path, _path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merge_module, "copy_atomic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merged(theirs, ours)
    assert list(ours.trials()) == []


def test_measurements_come_first(pair: tuple[Store, Store]) -> None:
    """Who finds a merged trial finds its latencies."""
    theirs, _ = pair
    put(theirs, trial())
    theirs.put(Measurement(subject="latency", settings={}, quantities={}))
    assert [kind for kind, _ in keys_of(theirs)] == [Measurement, TrialRecord]
