"""Settings: groups, a study's defaults, the command line; a wrong name lists the right ones."""

import shutil
from pathlib import Path

import pytest

from harness.measure.quality_config import OF_CAPTIONS
from harness.records.errors import UserError
from harness.records.fields import describe_fields
from harness.trials import compose, settings
from harness.trials.compose import PATHS, compose_plain, groups, merged, parsed, repeated_key
from harness.trials.settings import Settings, settings_of


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("{macs:1,macs:2}", "macs"),
        ("{a: 1, 'a': 2}", "a"),
        ("{a:{b:1,c:[{d:1}],b:2}}", "b"),
        ("{a:[1,2],c:3,a:4}", "a"),
        ("{a:{b:1},b:2}", None),
        ("{a:[{b:1},{b:2}]}", None),
        ("{a:'x,a:1',b:\"a:\"}", None),
        ("{a:http://x,b:http://y}", None),
        ("[a,b,a]", None),
        ("a:b:a", None),
    ],
)
def test_a_key_stands_once_in_a_mapping_on_the_command_line(value, key):
    assert repeated_key(value) == key


def test_captions_are_said_as_they_are_and_asked_for_as_they_are_held_out():
    """Unless a study or the command line chooses otherwise, by a path or by a whole group."""

    def made(*overrides, **defaults):
        settings = settings_of(["data=metadata", *overrides], defaults)
        return settings.text.template, settings.sampling.labels

    assert made() == ("a photo of a {}", "proportional")
    assert made("data.captions=true") == made("data.captions=true", "sampling=full") == ("{}", "heldout")
    assert made("data=emoji") == made("data=emoji", "text=huggingface") == ("{}", "heldout")
    assert made("data=emoji", "text.template='a drawing of {}'")[0] == "a drawing of {}"
    assert made("data=emoji", **{"text.template": "my {}", "sampling.labels": "balanced"}) == ("my {}", "balanced")
    assert made("data=emoji", text={"kind": "minilm", "template": "my {}"})[0] == "my {}"
    assert settings_of(["data=emoji", "text=class_table"]).sampling.labels == "heldout"
    assert settings_of(["data=emoji"]).quality.metrics == ("kid", "fd", *OF_CAPTIONS)
    assert settings_of(["data=emoji", "quality.metrics=[kid]"]).quality.metrics == ("kid",)
    assert "class_agreement" not in settings_of(["data=emoji", "quality=fid"]).quality.metrics


def test_every_option_of_every_group_makes_settings():
    needs = {
        "data=image_folder": ["data.path=/x"],
        "objective=distillation": ["objective.teacher.name=x"],
        "objective=step_distillation": ["objective.teacher.name=x", "initial=x"],
        "objective=reconstruction": ["task=decode"],
    }
    for group, options in groups().items():
        for option in options:
            choice = f"{group}={option}"
            assert settings_of([choice, *needs.get(choice, [])])


def test_the_command_line_wins_over_the_study_and_the_study_over_the_yaml():
    study = {"recipe.steps": 7, "out": "elsewhere"}
    assert settings_of([], study).recipe.steps == 7
    assert settings_of(["recipe.steps=9"], study).recipe.steps == 9
    assert str(settings_of(["recipe.steps=9"], study).out) == "elsewhere"


def test_another_option_of_a_group_drops_the_values_meant_for_the_first():
    study = {"data": "image_folder", "data.path": "/a", "data.size": 64}
    assert settings_of(["data=digits"], study).data.kind == "digits"
    assert merged(study, {"data": "image_folder", "data.size": 32})["data.path"] == "/a"


DINOV2 = ["quality.extractor={kind: dinov2, weights: dino}"]


@pytest.mark.parametrize("words", [DINOV2, ["quality.extractor.kind=dinov2", "quality.extractor.weights=dino"]])
def test_another_kind_has_nothing_of_the_settings_of_the_kind_it_replaces(words):
    """The laptop's extractor looks at 64 pixels, which is no size of DINOv2's."""
    for study in ({}, {"quality.extractor.resolution": 96}, {"quality": "fid", "quality.metrics": ["fd"]}):
        extractor = settings_of(words, study).quality.extractor
        assert (extractor.kind, extractor.resolution, str(extractor.weights)) == ("dinov2", 224, "dino")
    before = settings_of(["quality.extractor.resolution=448", *words]).quality.extractor
    assert before.resolution == (448 if len(words) == 2 else 224), "the settings of one line are of one extractor"
    same = settings_of(["quality.extractor={kind: efficientnet_lite0}"], {"quality.extractor.resolution": 96})
    assert same.quality.extractor.resolution == 96


def test_a_group_can_be_written_out_whole():
    words = ["autoencoder={kind: tiny, encoder: e.pth, decoder: d.pth}", "data={kind: image_folder, path: pictures}"]
    settings = settings_of(words, {"protocol": "fig3", "data": "prepared", "data.path": "latents"})
    parts = ["autoencoder=tiny", "autoencoder.encoder=e.pth", "autoencoder.decoder=d.pth", "data=image_folder"]
    apart = settings_of([*parts, "data.path=pictures"], {"protocol": "fig3"})
    assert (settings.autoencoder, settings.data) == (apart.autoencoder, apart.data)
    with pytest.raises(UserError, match=r"unknown value for 'autoencoder.kind': 'tinny'; choose one of: tiny"):
        settings_of(["autoencoder={kind: tinny}"])


@pytest.mark.parametrize("path", ["/a b/c", "/a(1)/[b]", 'say "no"', "/a\\b", "a,b", "ü/ß"])
def test_paths_of_any_kind_arrive_whole(path):
    quoted = "'" + path + "'"
    assert str(settings_of(["data=image_folder", f"data.path={quoted}"]).data.path) == path


@pytest.mark.parametrize("path", ["~/my images", "/a(1)/b,c", "./d=e", "../[f]", "~"])
def test_what_begins_as_a_path_needs_no_quotes_and_home_is_found(path):
    settings = settings_of(["data=image_folder", f"data.path={path}", f"out={path}"])
    assert settings.data.path == settings.out == Path(path).expanduser()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("recipe.stepz=3", "unknown setting 'recipe.stepz'; choose one of: recipe.steps"),
        ("recipee=full", "unknown setting 'recipee'; choose one of: recipe"),
        ("data=digts", "unknown data 'digts'; choose one of: digits"),
        ("recipe.steps=many", "'recipe.steps' must be a whole number, not 'many'"),
        ("recipe.steps=0", "recipe.steps must be at least 1, not 0"),
        ("recipe.steps.x=0", "recipe.steps"),
        ("seeds=[0,0]", "seeds are different whole numbers"),
        ("seeds=3", "'seeds' must be a list"),
        ("limits.kid=3", "unknown limit 'kid'; choose one of: flops_fvcore"),
        ("latent=0", "latent is 1 to 4096"),
        ("steps", "write key=value"),
        ("tracker.project=a(1)", "quote the value"),
        ("seeds=0,1", "write a list in brackets, 'seeds=[0,1]'"),
        ("seeds=0..3", "'seeds' must be a list, not '0..3'; write [0,1,2,3]"),
        ("seeds=0-2", "'seeds' must be a list, not '0-2'; write [0,1,2]"),
        ("seeds=0 1", "'seeds' must be a list, not '0 1'; write [0,1]"),
        ("seeds=[0 1]", "'seeds' must be a list with commas between its values, not ['0 1']; write [0,1]"),
        ("seeds=[0,1", "write a list in square brackets, 'seeds=[0,1]'"),
        ("seeds=0,1]", "write a list in square brackets, 'seeds=[0,1]'"),
        ("seeds=(0,1)", "write a list in square brackets, 'seeds=[0,1]'"),
        ("budgets=40,100", "without commas, budgets=40100, a list in brackets, 'budgets=[40,100]'"),
        ("seeds=range(0,3)", "write a list in brackets, 'seeds=[0, 1, 2]'"),
        ("recipe.steps=choice(1,2)", "stands for several studies, and a command runs one"),
        ("data=glob(*)", "stands for several studies, and a command runs one"),
        ("data@other=digits", "without the '@other' of 'data@other=digits'"),
        ("recipe.steps=${nothing}", "'recipe.steps' refers with ${...} to what is not there: "),
        ("recipe.steps=${oc.env:NOTHING_AT_ALL}", "not there: \"Environment variable 'NOTHING_AT_ALL' not found\""),
        ("~data", "cannot delete"),
    ],
)
def test_mistakes_are_one_sentence(override, sentence):
    with pytest.raises(UserError) as error:
        settings_of([override])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_values_are_read_as_what_they_are():
    read = parsed(["a=1", "b=1e-3", "c=null", "d=[1,x]", "e='1'", "f=true"])
    assert read == {"a": 1, "b": 0.001, "c": None, "d": [1, "x"], "e": "1", "f": True}


def test_settings_outside_groups_can_be_set():
    plain = compose_plain(["limits.params=5", "out='/some where'"])
    assert plain["limits"] == {"params": 5}
    assert plain["out"] == "/some where"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["launcher.gpus=8"], "launcher.gpus=8 makes 8 processes of one training; say how they share it: parallel=ddp"),
        (
            ["launcher.nodes=2", "parallel=fsdp", "recipe.batch_size=1"],
            "launcher.nodes=2 launcher.gpus=1 makes 2 proces",
        ),
        (["launcher.processes=2"], "launcher.processes=2 on a node are not launcher.gpus=1; leave out launcher.proce"),
        (
            ["launcher.gpus=2", "parallel=ddp", "recipe.cuda_graph=true"],
            "records what one process computes, and launcher.gpus",
        ),
        (
            ["launcher.gpus=2", "parallel=fsdp", "recipe.channels_last=true"],
            "orders kernels as parallel=fsdp cannot share",
        ),
        (["launcher.gpus=0", "recipe.device=cuda"], "launcher.gpus=0 asks Slurm for none; set launcher.gpus=1"),
    ],
)
def test_gpus_that_would_stand_idle_or_be_missed_are_known_before_anything_is_submitted(settings, sentence):
    with pytest.raises(UserError) as error:
        settings_of(["launcher=slurm", *settings])
    assert sentence in str(error.value)
    assert settings_of(["launcher=slurm", "launcher.gpus=8", "count_only=true"]).launcher.gpus == 8
    assert settings_of(
        ["launcher=slurm", "launcher.gpus=0", "recipe.device=cuda", "launcher.additional={gres: 'gpu:1'}"]
    )


@pytest.mark.parametrize("folder", ["a?b", "a#b", "a%20b", "{a}", "a,b", "a=b", "a b", "[a]", "a(1)", "./${a}", "a{b}"])
def test_an_output_folder_may_be_called_anything(folder):
    assert settings_of([f"out={folder}"]).out == Path(folder)


@pytest.mark.parametrize("key", ["1234567812345678", "12345e67", "winner [2].yaml"])
def test_a_trials_key_is_a_text_whatever_it_looks_like(key):
    words = ["objective=distillation", f"objective.teacher.name={key}"]
    assert settings_of(words).objective.teacher.name == key


@pytest.mark.parametrize("template", ["{}", "a photo of a {}", "'{}'", '"{}, drawn"', "{}, drawn"])
def test_a_template_is_taken_as_it_is(template):
    assert settings_of([f"text.template={template}"]).text.template == template.strip("'\"")


def test_every_setting_that_is_a_path_is_taken_as_one():
    assert {line.path for line in describe_fields(Settings, "") if line.type.split(" | ")[0] == "path"} == PATHS
    assert settings_of(["data=image_folder", "data.path=a(1)", "data.names=null"]).data.names is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"steps: 5\nsteps: 6\n", r"mine\.yaml, line 2: the key 'steps' stands in line 1 too"),
        (b"steps: [5\n", r"mine\.yaml is not YAML, line 2"),
        (b"steps: \xff\n", r"mine\.yaml is not YAML, which is UTF-8 text"),
    ],
)
def test_an_option_of_ones_own_that_is_broken_is_one_sentence(content, sentence, tmp_path, monkeypatch):
    shutil.copytree(compose.CONF, tmp_path / "conf")
    (tmp_path / "conf" / "recipe" / "mine.yaml").write_bytes(content)
    monkeypatch.setattr(compose, "CONF", tmp_path / "conf")
    with pytest.raises(UserError, match=sentence):
        compose.compose_plain(["recipe=mine"])


def test_a_wrong_line_in_the_file_of_a_group_is_told_with_the_file(tmp_path, monkeypatch):
    mine = tmp_path / "conf"
    shutil.copytree(compose.CONF, mine)
    with (mine / "recipe" / "laptop.yaml").open("a") as file:
        file.write("stepz: 4\n")
    for module in (compose, settings):
        monkeypatch.setattr(module, "CONF", mine)
    with pytest.raises(UserError, match=rf"^{mine}/recipe/laptop.yaml: unknown setting 'recipe.stepz'"):
        settings_of(["recipe=laptop"])
    assert settings_of(["recipe=full"])
