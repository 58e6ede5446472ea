"""Removing: all of a folder under its name at once, and whatever a kill leaves is found again."""

import os
from pathlib import Path

import pytest

from harness.records import removal
from harness.records.removal import STALE_S, outermost, removable, remove, temporaries

NOW = 1_800_000_000.0
HEX = "0123456789abcdef" * 2


def created(path: Path, *, age_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    os.utime(path, (NOW - age_s,) * 2)
    return path


@pytest.mark.parametrize(
    "name",
    [f".record.json.{HEX}", ".checkpoint-00000400/state.json", ".code-abc_12de/x.py", ".unet.77.mlpackage/weights",
     ".ema.safetensors.77"],
)  # fmt: skip
def test_what_no_writer_touched_for_an_hour_is_stale(tmp_path: Path, name: str) -> None:
    path = created(tmp_path / name, age_s=STALE_S + 1)
    top = tmp_path / name.split("/")[0]
    os.utime(top, (NOW - STALE_S - 1,) * 2)
    (stale,) = temporaries(tmp_path, NOW)
    assert stale.path == top
    os.utime(path, (NOW - STALE_S + 1,) * 2)
    assert list(temporaries(tmp_path, NOW)) == [], "its writer may still be at work"


@pytest.mark.parametrize("name", ["record.json", ".hidden", ".gitignore", "checkpoint-00000400/state.json", f"a.{HEX}"])
def test_what_is_no_temporary_file_stays(tmp_path: Path, name: str) -> None:
    created(tmp_path / name, age_s=1e6)
    assert list(temporaries(tmp_path, NOW)) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside = created(tmp_path / "outside" / "file", age_s=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "outside")
    created(tmp_path / "outside" / f".x.{HEX}", age_s=1e6)
    assert list(temporaries(tmp_path / "out", NOW)) == []
    remove(tmp_path / "out" / "link")
    assert outside.exists()
    assert not (tmp_path / "out" / "link").is_symlink()


def test_a_removal_that_is_killed_half_way_is_invisible_and_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        created(tmp_path / "folder" / name, age_s=0)

    def killed(path: Path) -> None:
        (path / "a").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(removal.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove(tmp_path / "folder")
    assert not (tmp_path / "folder").exists(), "nobody finds half of it under its name"
    monkeypatch.undo()
    (left,) = temporaries(tmp_path, NOW)
    remove(left.path)
    assert list(tmp_path.iterdir()) == []
    remove(left.path)  # gone already


def test_each_path_once_and_sizes_add_up(tmp_path: Path) -> None:
    created(tmp_path / "a" / "b" / "c", age_s=0)
    created(tmp_path / "ab", age_s=0)
    items = [removable(tmp_path / name, "x") for name in ("a/b", "ab", "a", "a/b/c")]
    assert [item.path.name for item in outermost(items)] == ["a", "ab"]
    assert removable(tmp_path / "ab", "x").size_bytes == 5
