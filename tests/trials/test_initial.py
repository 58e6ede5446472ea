"""A trial that begins with another's averaged weights: however these are named, the same trial, and no other."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_study import SETTINGS, tiny_spec

from harness.cli import main
from harness.records.errors import UserError
from harness.records.plain import identity
from harness.trials import run
from harness.trials.protocols import protocol_name_of
from harness.trials.run import run_trial
from harness.trials.settings import settings_of

TINY_OVERRIDES = [f"{key}={value}".replace(" ", "") for key, value in SETTINGS.items()]


def begun(name: str, *more: str, **named):
    return tiny_spec(f"initial={name}", *more, **named)


def test_they_are_their_contents_however_they_are_named(spec):
    """A key and its beginning, a file, what was promoted, a published folder; unset and `none` are random weights."""
    file = f"runs/store/artifacts/{spec.key}/ema.safetensors"
    Path("published").mkdir(exist_ok=True)
    shutil.copy(file, "published/model.safetensors")
    keys = {begun(name).key for name in (spec.key, spec.key[:5], file, "winner.yaml", "published")}
    assert len(keys) == 1
    assert begun("none").key == begun("null").key == tiny_spec().key
    assert tiny_spec().key not in keys
    sections = begun("published").protocol.sections
    assert "published" not in str(sections)
    assert "initial" not in tiny_spec().protocol.sections
    named = {
        name: identity(getattr(settings_of(["protocol=laptop"]), name)) for name in ("recipe", "sampling", "quality")
    }
    assert protocol_name_of(named) == "laptop"
    assert protocol_name_of({**named, "initial": {"weights": "abcd"}}) == "laptop, but initial=abcd"
    assert settings_of(["initial=1234567812345678"]).initial == "1234567812345678"


def test_each_seed_may_begin_with_its_own_and_is_then_what_it_is_with_that_alone(spec, tmp_path):
    both = f"initial=[{spec.key[:6]}, none]", "seeds=[4,0]"
    assert begun(spec.key, seed=4).key == tiny_spec(*both, seed=4).key
    assert tiny_spec(seed=0).key == tiny_spec(*both, seed=0).key
    assert tiny_spec(*both, seed=4).settings.initial == spec.key[:6]
    named = settings_of(["initial=[1234567812345678, ./a b.safetensors]", "seeds=[3,1]"])
    assert named.initial == ("1234567812345678", "a b.safetensors")
    assert [named.beginning(seed) for seed in (1, 3)] == list(reversed(named.initial))
    with pytest.raises(UserError, match="initial names 2 networks, and there are 3 seeds; name one for each seed, or"):
        settings_of(["initial=[ab,cd]", "seeds=[0,1,2]"])
    with pytest.raises(UserError, match="initial: 'ffff' is neither the key of a trial in"):
        tiny_spec(f"initial=[{spec.key},ffff]", "seeds=[4,0]", seed=0)


def test_a_training_begins_with_them(spec, tmp_path, monkeypatch):
    train, begins = run.train, []

    def seen(model, *arguments, **more):
        begins.append(({name: tensor.clone() for name, tensor in model.state_dict().items()}, more["initial"]))
        return train(model, *arguments, **more)

    monkeypatch.setattr(run, "train", seen)
    own = begun(spec.key, "recipe.steps=2", "objective=flow_matching")
    assert run_trial(own, tmp_path / "attempts" / own.key / "1").state == "complete"
    ((weights, identity),) = begins
    expected = load_file(f"runs/store/artifacts/{spec.key}/ema.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert identity == own.protocol.sections["initial"]


@pytest.mark.parametrize(
    ("name", "edits", "says"),
    [
        ("{key}", {"feed_forward.ratio": 2}, r"initial=\w+ has weights of another architecture .*feed_forward\.ratio"),
        ("ffff", {}, r"initial: 'ffff' is neither the key of a trial in .*, nor the folder that it was published as"),
        ("gone.safetensors", {}, r"cannot read gone\.safetensors"),
    ],
)
def test_what_it_cannot_begin_with_is_refused_before_anything_is_trained(spec, name, edits, says):
    with pytest.raises(UserError, match=says):
        begun(name.format(key=spec.key), edits=edits)


def test_so_it_is_in_a_dry_run(spec, capsys):
    words = ["train", "laptop/thin_sdxl", *TINY_OVERRIDES, f"initial={spec.key}", "--dry-run"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "has weights of another architecture than the one that is trained: its stages" in said
    assert said.count("\n") == 1
