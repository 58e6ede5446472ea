"""Launcher settings refuse what cannot work, and say how many jobs run at once."""

from importlib.resources import files
from typing import Any

import pytest
import yaml

from harness.launch import config
from harness.launch.config import DebugLauncher, LauncherConfig, LocalLauncher, SlurmLauncher, jobs_at_once, threads_of
from harness.records.errors import UserError
from harness.records.plain import from_plain

UNION: Any = LauncherConfig


@pytest.mark.parametrize("name", ["debug", "local", "slurm"])
def test_every_setting_file_builds_the_launcher_it_is_named_after(name: str) -> None:
    text = (files("harness") / "conf" / "launcher" / f"{name}.yaml").read_text()
    assert from_plain(UNION, yaml.safe_load(text)).kind == name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "lokal"}, "unknown value for 'launcher.kind': 'lokal'; choose one of: local, debug, slurm"),
        ({"kind": "local", "thread": 2}, "unknown setting 'launcher.thread'; choose one of: launcher.threads"),
        ({"kind": "local", "threads": 0}, "launcher.threads must be at least 1, not 0"),
        ({"kind": "local", "stop_grace_s": 0.0}, "launcher.stop_grace_s must be a number above 0, not 0"),
        ({"kind": "slurm", "gpus": -1}, "launcher.gpus must be at least 0"),
        ({"kind": "slurm", "timeout_min": 1, "signal_delay_s": 90}, "signal_delay_s must lie between 0 and"),
        ({"kind": "slurm", "heartbeat_s": 60.0}, "lease_timeout_s must be at least three heartbeats (180 s)"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        from_plain(UNION, settings, where="launcher")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_as_many_jobs_as_cores_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "usable_cores", lambda: 8)
    assert jobs_at_once(LocalLauncher(threads=1)) == 8
    assert jobs_at_once(LocalLauncher(threads=3)) == 2
    assert jobs_at_once(LocalLauncher(threads=16)) == 1
    assert jobs_at_once(LocalLauncher(threads=3, max_in_flight=5)) == 5
    assert jobs_at_once(DebugLauncher()) == 1
    assert jobs_at_once(SlurmLauncher(max_in_flight=40)) == 40


def test_slurm_workers_use_the_cores_they_ask_for() -> None:
    assert threads_of(SlurmLauncher(cpus=6)) == 6
    assert threads_of(SlurmLauncher(cpus=6, threads=2)) == 2
    assert threads_of(DebugLauncher()) is None
