"""Checkpoints: whole or not at all, and a damaged one is noticed."""

import errno
from pathlib import Path

import pytest
import torch
from tiny_training import run

from harness.records.errors import UserError
from harness.training import checkpoint
from harness.training.checkpoint import Checkpoint, copy_newest, latest, save
from harness.training.outcomes import Trained


def checkpoint_of(step: int) -> Checkpoint:
    tensors = {"a": torch.full((4, 4), float(step)), "b": torch.arange(6).view(2, 3).t().contiguous()}
    return Checkpoint(step=step, tensors=tensors, state={"loss": 0.1 + step, "curve": [[1, "x", 1 / 3]]})


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, checkpoint_of(step))
    newest, notes = latest(tmp_path)
    assert newest is not None
    assert (newest.step, newest.state, notes) == (15, checkpoint_of(15).state, ())
    assert all(torch.equal(newest.tensors[name], tensor) for name, tensor in checkpoint_of(15).tensors.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000010", "checkpoint-00000015"]


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, Path.unlink], ids=["flipped", "truncated", "missing"])
@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_older_one_used(tmp_path: Path, damage: object, file: str) -> None:
    save(tmp_path, checkpoint_of(5))
    save(tmp_path, checkpoint_of(10))
    damage(tmp_path / "checkpoint-00000010" / file)  # type: ignore[operator]
    newest, notes = latest(tmp_path)
    assert newest is not None
    assert newest.step == 5
    assert len(notes) == 1
    assert "checkpoint-00000010 is damaged" in notes[0]
    assert "an older state used" in notes[0]


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
        save(tmp_path / folder, checkpoint_of(5))
    if damaged:
        flip_a_byte(tmp_path / "mine" / "checkpoint-00000005" / "tensors.safetensors")
    assert copy_newest(tmp_path / "theirs", tmp_path / "mine", at_most=10) == 5
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["checkpoint-00000005"]
    assert latest(tmp_path / "mine")[1] == ()


def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, checkpoint_of(5))

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        save(tmp_path, checkpoint_of(10))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005"]
    assert latest(tmp_path)[0] is not None


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save(tmp_path / "file" / "folder", checkpoint_of(5))
