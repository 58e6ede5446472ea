"""Checkpoints: whole or not at all, and a damaged one is noticed."""

import dataclasses
import errno
import itertools
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import RECIPE, run

from harness.records.errors import UserError
from harness.training import checkpoint, saving
from harness.training.checkpoint import Kept, copy_newest, latest, load
from harness.training.outcomes import Trained
from harness.training.parallel import World
from harness.training.saving import LOCK, Checkpoints, NotFiniteError, held

KEPT = Kept(newest=2)


def tensors_of(step: int) -> dict[str, torch.Tensor]:
    return {
        "a": torch.full((4, 4), float(step)),
        "b": torch.arange(6).view(2, 3).t(),
        "c": torch.tensor(0.5 * step, dtype=torch.float64),
    }


def state_of(step: int) -> dict[str, Any]:
    return {"loss": 0.1 + step, "curve": [[1, "x", 1 / 3]]}


def save(folder: Path, *steps: int, kept: Kept = KEPT) -> UserError | NotFiniteError | None:
    """One after the other; how the last one ended."""
    heard: list[int] = []
    checkpoints, failure = Checkpoints(folder, kept, World(), heard.append), None
    for step in steps:
        checkpoints.begin(step, tensors_of(step), state_of(step))
        failure = checkpoints.settle()
    checkpoints.close()
    assert heard == list(steps if failure is None else steps[:-1])
    return failure


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 5, 10, 15)
    newest, notes = latest(tmp_path)
    assert newest is not None
    assert (newest.step, newest.state, notes) == (15, state_of(15), ())
    found = {name: torch.zeros_like(tensor) for name, tensor in tensors_of(15).items()}
    load(newest, found, World())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors_of(15).items())
    assert names_in(tmp_path) == ["checkpoint-00000010", "checkpoint-00000015"]


def test_what_is_saved_is_what_was_there_when_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training's next step changes the weights while the thread writes; a slow disk holds up no step but the next
    checkpoint's."""
    may_write, write = threading.Event(), saving.write_tensors
    monkeypatch.setattr(saving, "write_tensors", lambda *given: may_write.wait(60) and write(*given))
    checkpoints, tensors, state = Checkpoints(tmp_path, KEPT, World(), lambda _step: None), tensors_of(5), state_of(5)
    checkpoints.begin(5, tensors, state, changing={"c"})
    tensors["c"].zero_()
    checkpoints.copied()
    tensors["a"].zero_()
    state["curve"].clear()
    assert latest(tmp_path) == (None, ()), "nothing that is not whole has a checkpoint's name"
    may_write.set()
    assert checkpoints.settle() is None
    newest, _ = latest(tmp_path)
    assert newest is not None
    found = {name: torch.zeros_like(tensor) for name, tensor in tensors_of(5).items()}
    load(newest, found, World())
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors_of(5).items())
    assert newest.state == state_of(5)


def _late(copy: Any, *given: Any) -> None:
    time.sleep(0.3)
    copy(*given)


@pytest.mark.parametrize("waits", [True, False])
def test_no_weight_changes_before_it_is_copied(
    tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """However slow copying is; and it shows where the optimiser does not wait for it."""
    copy = Checkpoints._copy
    monkeypatch.setattr(Checkpoints, "_copy", lambda self, tensors: _late(copy, self, tensors))
    if not waits:
        monkeypatch.setattr(Checkpoints, "copied", lambda _self: None)
    run(tmp_path)
    shutil.rmtree(tmp_path / "checkpoint-00000014")
    again = run(tmp_path)
    assert again.effort.continued_from == (10,)
    assert (again.curve == unbroken.curve) is waits


def test_a_policy_says_what_stays(tmp_path: Path) -> None:
    save(tmp_path, *range(0, 50, 5), kept=Kept(newest=1, every=20))
    assert [int(name[-8:]) for name in names_in(tmp_path)] == [0, 20, 40, 45]
    recipe = dataclasses.replace(RECIPE, checkpoints_kept=1, keep_checkpoint_every=10)
    run(tmp_path / "trained", recipe)
    assert names_in(tmp_path / "trained") == ["checkpoint-00000010", "checkpoint-00000014", LOCK]
    assert recipe.most_checkpoints == 2


def test_weights_of_another_shape_or_name_are_one_sentence(tmp_path: Path) -> None:
    save(tmp_path, 5)
    newest, _ = latest(tmp_path)
    assert newest is not None
    for odd in ({"a": torch.zeros(4, 3)}, {"other": torch.zeros(4)}):
        (name,) = odd
        with pytest.raises(UserError, match=f"these weights are of another architecture: '{name}' differs"):
            load(newest, odd, World())


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink], ids=["flipped", "truncated", "missing"])
@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_used(tmp_path: Path, damage: object, file: str) -> None:
    save(tmp_path, 5, 10)
    damage(tmp_path / "checkpoint-00000010" / file)  # type: ignore[operator]
    newest, notes = latest(tmp_path)
    assert newest is not None
    assert newest.step == 5
    assert len(notes) == 1
    assert "checkpoint-00000010 is damaged" in notes[0]
    assert "an older state used" in notes[0]
    assert names_in(tmp_path) == ["checkpoint-00000005", "damaged-checkpoint-00000010"], "what is left of it stays"


@pytest.mark.parametrize("where", ["files", "state.json", "folder", "rename"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE], ids=errno.errorcode.get)
def test_a_disk_that_does_not_answer_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    """Nothing is removed, and no training begins anew."""
    run(tmp_path)
    there = names_in(tmp_path)
    if where == "rename":
        flip_a_byte(tmp_path / "checkpoint-00000014" / "tensors.safetensors")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(*{"files": (checkpoint, "file_sha256"), "state.json": (Path, "read_text"),
                        "folder": (os, "listdir"), "rename": (Path, "rename")}[where], refuse)  # fmt: skip
        with pytest.raises(UserError, match=f"cannot .*{os.strerror(number)}; no checkpoint was removed"):
            run(tmp_path)
    assert names_in(tmp_path) == there
    if where != "rename":
        assert latest(tmp_path)[1] == ()


class Pair(World):
    """This process, and a second that says always the same."""

    def __init__(self, other: object) -> None:
        super().__init__(0, 1)
        object.__setattr__(self, "other", other)

    def all(self, value: Any) -> list[Any]:
        return [value, self.other]  # type: ignore[attr-defined]


def test_what_another_process_cannot_read_is_no_damage_here(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    flip_a_byte(tmp_path / "checkpoint-00000010" / "tensors.safetensors")
    with pytest.raises(UserError, match="cannot read it there"):
        latest(tmp_path, world=Pair((None, "cannot read it there")))
    assert names_in(tmp_path) == ["checkpoint-00000005", "checkpoint-00000010"]


@pytest.mark.parametrize("damaged", [["14"], ["14", "10"]])
def test_training_goes_on_from_before_the_damage_and_says_so(
    tmp_path: Path, unbroken: Trained, damaged: list[str]
) -> None:
    run(tmp_path)
    for step in damaged:
        flip_a_byte(tmp_path / f"checkpoint-000000{step}" / "tensors.safetensors")
    again = run(tmp_path)
    assert again.effort.continued_from == ((10,) if damaged == ["14"] else ())
    assert len(again.effort.notes) == len(damaged)
    assert again.curve == unbroken.curve
    ours, theirs = again.model.state_dict(), unbroken.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_empty_or_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert latest(tmp_path) == (None, ())
    assert latest(tmp_path / "none") == (None, ())


@pytest.mark.parametrize("damaged", [False, True])
def test_a_copy_takes_the_place_of_a_damaged_checkpoint_and_leaves_a_whole_one(tmp_path: Path, damaged: bool) -> None:
    """Two studies handed the training to and fro: both have that step."""
    for folder in ("theirs", "mine"):
        save(tmp_path / folder, 5)
    if damaged:
        flip_a_byte(tmp_path / "mine" / "checkpoint-00000005" / "tensors.safetensors")
    assert copy_newest(tmp_path / "theirs", tmp_path / "mine", at_most=10) == 5
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["checkpoint-00000005"]
    assert latest(tmp_path / "mine")[1] == ()


def fill_the_disk(monkeypatch: pytest.MonkeyPatch, *passings: int) -> None:
    """At those writes of a checkpoint, counted from 1; at all of them if none is given."""
    count, write = itertools.count(1), checkpoint.save_file

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        if not passings or next(count) in passings:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path, metadata)

    monkeypatch.setattr(checkpoint, "save_file", full)


def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 5)
    fill_the_disk(monkeypatch)
    assert "No space left on device; free some space" in str(save(tmp_path, 10))
    assert names_in(tmp_path) == ["checkpoint-00000005"]
    assert latest(tmp_path)[0] is not None


def test_training_goes_on_without_a_checkpoint_and_says_so(
    tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_disk(monkeypatch, 1, 2)
    trained = run(tmp_path)
    (note,) = trained.effort.notes
    assert note.startswith("a checkpoint was left out, and the training went on: cannot write")
    assert "checkpoint-00000005: No space left on device" in note
    assert trained.curve == unbroken.curve
    assert names_in(tmp_path) == ["checkpoint-00000014", LOCK]


def test_a_training_whose_end_cannot_be_saved_fails_and_goes_on_from_before(
    tmp_path: Path, unbroken: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fill_the_disk(patch, 3)
        with pytest.raises(UserError, match="checkpoint-00000014: No space left on device; free some space"):
            run(tmp_path)
    again = run(tmp_path)
    assert again.effort.continued_from == (10,)
    assert again.curve == unbroken.curve


def test_a_folder_that_another_training_holds_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "HELD_WAIT_S", 0.0)
    with held(tmp_path, World()), pytest.raises(UserError, match=f"process {os.getpid()} on .* trains in .*; wait for"):
        run(tmp_path)
    assert names_in(tmp_path) == [LOCK]
    run(tmp_path)


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in str(save(tmp_path / "file" / "folder", 5))
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path / "file" / "folder")
