"""Grids and scores while a training runs: they change none of its bits, come at the same steps whatever kills it, and
are told to the tracker and to `harness status`."""

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_study import share_cache, tiny_spec

from harness.launch.attempt import AttemptStopped
from harness.launch.events import read_progress, read_steps
from harness.models.pixels import NotFiniteError
from harness.records.errors import UserError
from harness.records.quantity import Failed
from harness.training import loop
from harness.training.parallel import World
from harness.trials.prepared import prepare
from harness.trials.reported import Latest, left_text, newest_text
from harness.trials.run import Trial, run_trial
from harness.trials.samples import by_class, initialised_network, write_grid
from harness.trials.settings import settings_of
from harness.trials.watch_config import WatchConfig
from harness.trials.watching import GRID_COLUMNS, GRID_ROWS, PictureWatcher

WATCHED = (
    "watch.grid_every=2", "watch.score_every=4", "watch.samples=24", "watch.pictures=10", "watch.at_most=10",
    "recipe.log_every=1", "tracker=local",
)  # fmt: skip


def attempt(name, number=1):
    folder = Path("attempts") / name / f"attempt-{number:03d}"
    folder.mkdir(parents=True)
    return folder


@dataclass
class Run:
    """A trial that was run in a folder of its own."""

    spec: object
    record: object
    attempt: Path

    def content(self, name):
        return self.spec.store.artifact(self.record.key, name).read_bytes()

    @property
    def seen(self):
        watched = json.loads(self.content("watched.json"))["seen"]
        return [{name: value for name, value in each.items() if name != "seconds"} for each in watched]

    @property
    def told(self):
        """The tracker's points and images, without what depends on the time."""
        lines = map(
            json.loads, (self.spec.settings.out / "tracking" / f"{self.record.key}.jsonl").read_text().splitlines()
        )
        kept = [line for line in lines if line["event"] in ("point", "image")]
        return [(line["step"], line["name"], line.get("value")) for line in kept if line["name"] != "images_per_second"]


def spec_in(out, cache, *overrides):
    share_cache(Path(out), cache)
    return tiny_spec(f"out={out}", *overrides)


def run(spec, name, number=1):
    folder = attempt(name, number)
    return Run(spec, run_trial(spec, folder), folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("watching")


@pytest.fixture(scope="module")
def watched(place, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return run(spec_in("straight", cache, *WATCHED), "straight")


@pytest.fixture(autouse=True)
def _there(place, watched, monkeypatch):
    monkeypatch.chdir(place)


def test_watching_changes_no_bit_of_the_trial_and_no_key(watched, cache):
    plain = run(spec_in("plain", cache, "recipe.log_every=1"), "plain")
    assert plain.record.key == watched.record.key
    assert plain.record.curve == watched.record.curve
    ours, theirs = (
        load_file(each.spec.store.artifact(each.record.key, "ema.safetensors")) for each in (watched, plain)
    )
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    for name, quantity in plain.record.quantities.items():
        if name != "train_seconds":
            assert watched.record.quantities[name] == quantity, name
    more = {"watch": {"grids": 3, "scores": 1}}
    under = plain.record.quantities["train_seconds"].conditions
    assert watched.record.quantities["train_seconds"].conditions == {**under, **more}
    assert set(watched.record.artifacts) - set(plain.record.artifacts) == {
        "watched.json", "watched-00000002.png", "watched-00000004.png", "watched-00000006.png"
    }  # fmt: skip
    assert 0 < watched.record.provenance["stage_seconds"]["watch"] < watched.record.quantities["train_seconds"].value
    assert "watch" not in plain.record.provenance["stage_seconds"]


def test_what_was_seen_is_scores_with_their_conditions_and_grids_from_the_same_noise(watched):
    assert [(each["step"], sorted(each["scores"]), each["grid"]) for each in watched.seen] == [
        (2, [], "watched-00000002.png"),
        (4, ["fd", "kid"], "watched-00000004.png"),
        (6, [], "watched-00000006.png"),
    ]
    kid = watched.seen[1]["scores"]["kid"]
    assert kid["kind"] == "measured"
    assert kid["conditions"]["step"] == 4
    assert kid["conditions"]["label"].endswith("N=24 against 64")
    assert Image.open(watched.spec.store.artifact(watched.record.key, "watched-00000002.png")).size[0] > 100
    assert watched.content("watched-00000002.png") != watched.content("watched-00000006.png")


def test_a_grid_is_of_the_pictures_that_the_trial_ends_with(watched, tmp_path):
    """From the same noise, for the same classes: after the last step it is of the first of the final samples."""
    samples = np.load(watched.spec.store.artifact(watched.record.key, "samples.npz"))
    images, labels = (torch.from_numpy(samples[name])[:10] for name in ("images", "labels"))
    shown, columns = by_class(images, labels, rows=GRID_ROWS, most_columns=GRID_COLUMNS)
    write_grid(shown, tmp_path / "grid.png", columns=columns)
    assert (tmp_path / "grid.png").read_bytes() == watched.content("watched-00000006.png")


def test_the_tracker_is_told_in_the_order_of_steps(watched):
    steps = [step for step, _, _ in watched.told]
    assert steps == sorted(steps)
    images = [(step, name) for step, name, value in watched.told if name == "watched"]
    assert images == [(2, "watched"), (4, "watched"), (6, "watched")]
    assert [(step, name) for step, name, _ in watched.told if "." in name] == [(4, "watched.kid"), (4, "watched.fd")]


def test_killed_and_asked_to_stop_it_has_seen_and_told_everything_once(watched, cache, monkeypatch):
    """Killed before a checkpoint; behind what it saw last, which is seen again; asked to stop while it looks, which it
    leaves for the next attempt, and that one too; killed while it looks after the last step, and asked to stop there;
    killed when all is seen. The attempt that ends it looks at nothing, and its record has what the others saw."""
    spec = spec_in("killed", cache, *WATCHED, "recipe.checkpoint_every=3")
    unwatched = replace(spec, settings=replace(spec.settings, watch=WatchConfig()))
    advance, look, looks, folders = loop.Training.advance, PictureWatcher.look, [], []

    def dies(*_):
        raise KeyboardInterrupt

    def dies_at(step):
        def dying(self, at, batch):
            if at == step:
                self.checkpoints.close()
                dies()
            return advance(self, at, batch)

        return dying

    def looks_until(stopped_at, end):
        def looking(self, step, *how):
            said = read_progress(folders[-1])
            assert (said.phase, said.step) == ("look", step)
            if step == stopped_at:
                end()
            look(self, step, *how)
            looks.append((step, self.has_seen(step)))

        return looking

    def is_asked_to_stop():
        os.kill(os.getpid(), signal.SIGTERM)

    for owner, method, how, end in (
        (loop.Training, "advance", dies_at(3), KeyboardInterrupt),
        (loop.Training, "advance", dies_at(5), KeyboardInterrupt),
        (PictureWatcher, "look", looks_until(4, is_asked_to_stop), AttemptStopped),
        (PictureWatcher, "look", looks_until(4, is_asked_to_stop), AttemptStopped),
        (PictureWatcher, "look", looks_until(6, dies), KeyboardInterrupt),
        (PictureWatcher, "look", looks_until(6, is_asked_to_stop), AttemptStopped),
        (Trial, "keep_weights", dies, KeyboardInterrupt),
    ):
        folders.append(attempt("killed", len(folders) + 1))
        with monkeypatch.context() as patch:
            patch.setattr(PictureWatcher, "look", looks_until(None, None))
            patch.setattr(owner, method, how)
            with pytest.raises(end):
                run_trial(spec, folders[-1])
    began = [line["to"] for line in read_steps(Path("attempts/killed")) if line["event"] == "began"]
    assert began == [0, 0, 3, 4, 4, 6, 6]
    assert looks == [(2, True), (2, True), (4, True), (4, False), (4, False), (4, True), (6, False), (6, True)]
    for name in ("watched-00000002.png", "watched-00000004.png", "watched-00000006.png"):
        assert spec.store.artifact(spec.key, name).read_bytes() == watched.content(name)
    spec.store.artifact(spec.key, "watched-00000002.png").unlink()
    ended = run(unwatched, "killed", 8)
    assert ended.record.key == spec.key
    assert ended.record.provenance["continued_from"] == [3, 4]
    assert ended.seen == watched.seen
    assert ended.told == watched.told
    assert set(watched.record.artifacts) - set(ended.record.artifacts) == {"watched-00000002.png"}
    assert ended.record.provenance["stage_seconds"]["watch"] > 0
    assert ended.record.quantities["train_seconds"].conditions["watch"] == {"grids": 3, "scores": 1}


def test_processes_sample_a_share_each_and_together_what_one_does(watched):
    spec = watched.spec

    task, network = prepare(spec.settings).task, initialised_network(spec.architecture, 0)
    labels = task.labels(40)
    watcher = task.watcher(lambda name: Path(name), lambda _seen: None)
    shares = [watcher._sampled(network, labels, World(rank, 4), lambda: False) for rank in range(4)]
    assert [len(share) for share in shares] == [0, 16, 16, 8]
    assert torch.equal(torch.cat(shares), watcher._sampled(network, labels, World(), lambda: False))
    assert watcher._sampled(network, labels, World(), lambda: True) is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (NotFiniteError("3 of 16 images have values that are NaN"), "3 of 16 images have values that are NaN"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\n8 GiB"), "out of memory: CUDA out of memory. Tried 8 GiB"),
    ],
)
def test_samples_that_cannot_be_had_are_said_and_end_nothing(watched, tmp_path, monkeypatch, error, sentence):
    task, heard = prepare(watched.spec.settings).task, []

    def batches(*_):
        raise error

    watcher = task.watcher(lambda name: tmp_path / name, heard.append)
    monkeypatch.setattr(type(task), "batches", batches)
    watcher.look(4, torch.nn.Identity(), World(), lambda: False)
    (seen,) = heard
    failed = Failed(phase="watch", message=sentence)
    assert (dict(seen.scores), seen.grid, seen.values) == ({"kid": failed, "fd": failed}, None, {})
    assert seen.no_grid == failed
    watcher.begin(4, World())  # as the next attempt reads it
    assert watcher.watched.seen == ()


def test_a_full_disk_ends_no_look_and_the_reference_is_the_study_s_own(watched):
    task, heard = prepare(watched.spec.settings).task, []
    watcher = task.watcher(lambda name: Path("/dev/null") / name, heard.append)
    watcher.prepare()
    assert watcher.reference.features is task.reference.features
    assert watcher.reference.config.metrics == ("kid", "fd")
    stages = list(watched.record.provenance["stage_seconds"])
    assert stages.index("reference") + 1 == stages.index("train"), "before others wait for it"
    watcher.look(4, initialised_network(watched.spec.architecture, 0), World(), lambda: False)
    (seen,) = heard
    assert set(seen.values) == {"watched.kid", "watched.fd"}
    assert seen.no_grid.message.startswith("cannot write /dev/null/watched-00000004.png: ")


def test_what_was_scored_otherwise_and_a_damaged_file_are_forgotten(watched, tmp_path):

    def begun(*overrides, content=None):
        task = prepare(settings_of_watched(*overrides)).task
        (tmp_path / "watched.json").write_bytes(watched.content("watched.json") if content is None else content)
        watcher = task.watcher(lambda name: tmp_path / name, lambda _seen: None)
        watcher.begin(4, World())
        return [(each.step, sorted(each.scores)) for each in watcher.watched.seen]

    def settings_of_watched(*overrides):
        return tiny_spec(*WATCHED, *overrides, f"out={watched.spec.settings.out}").settings

    assert begun() == begun("watch.grid_every=null", "watch.score_every=null") == [(2, []), (4, ["fd", "kid"])]
    assert begun("watch.samples=20") == [(2, []), (4, [])]
    assert begun(content=b'{"seen": [') == []
    assert begun(content=b"[]") == []


def test_progress_has_the_newest_numbers_and_when_training_ends(watched, monkeypatch):
    progress = read_progress(watched.attempt)
    assert progress.phase == "score"
    latest, clock = Latest(processes=4), iter([100.0, 130.0])
    monkeypatch.setattr("harness.trials.reported.time.monotonic", lambda: next(clock))
    latest.points = {"validation_loss": watched.record.curve[-1]}
    assert latest.at(10, 100)["seconds_left"] is None
    at = latest.at(20, 100)
    assert (at["seconds_left"], at["processes"]) == (240.0, 4)
    progress = replace(progress, **at)
    assert left_text(progress) == "4 min left"
    assert newest_text(progress).startswith(watched.record.curve[-1].name.replace("_", " "))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["watch.score_every=10"], "watching would add 267% to the training's passes, since a sample takes"),
        (["watch.score_every=1000", "watch.metrics=[fid]"], "watch.metrics: unknown score"),
        (["watch.grid_every=0"], "watch.grid_every is a whole number from 1, not 0"),
        (["watch.samples=1"], "watch.samples is a whole number from 2, not 1"),
        (["watch.at_most=0"], "watch.at_most must be a number above 0, not 0"),
        (["watch.grid=3"], "unknown setting 'watch.grid'"),
    ],
)
def test_what_cannot_be_watched_is_refused(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        settings_of(overrides)
