"""Named protocols: one word for settings of several groups, which is no identity; and the word found from settings."""

from pathlib import Path

import pytest

from harness.records.errors import UserError
from harness.records.plain import identity
from harness.trials import compose
from harness.trials.compose import protocol_lines, protocols
from harness.trials.prepared import prepare
from harness.trials.protocols import NO_NAME, SD3, protocol_name, protocol_name_of
from harness.trials.settings import settings_of
from harness.trials.spec import TrialSpec

SD3_LATENTS = {
    "kind": "kl", "weights": "0123456789abcdef", "channels": 16, "downsampling": 8, "input_range": [-1.0, 1.0],
    "encoding": "sampled", "shift": 0.0609, "scale": 1.5305,
}  # fmt: skip


def test_laptop_is_what_a_study_does_that_names_none():
    """Not the settings alone: the very keys of its trials, which the word is no part of."""
    named, today = settings_of(["protocol=laptop"]), settings_of()
    assert named == today
    assert key_of(named) == key_of(today)
    assert key_of(settings_of(["protocol=laptop", "recipe.steps=9"])) != key_of(today)


def key_of(settings):
    spec = prepare(settings).spec("tiny", small(), 0)
    assert isinstance(spec, TrialSpec)
    return spec.key


def small():
    from tiny_study import TINY

    from harness.architecture.catalogue import architecture
    from harness.architecture.edits import with_edits

    return with_edits(architecture("laptop/thin_sdxl"), TINY)


@pytest.mark.parametrize("name", protocols())
def test_a_protocol_is_its_lines_in_the_place_of_its_word(name):
    lines = protocol_lines(name)
    assert {key.split(".")[0] for key in lines} == {"recipe", "sampling", "quality", "autoencoder"}
    assert settings_of([f"protocol={name}"]) == settings_of([], lines)
    assert settings_of([], {"protocol": name}) == settings_of([], lines)
    assert protocol_name(settings_of([f"protocol={name}"])) == name


def test_the_paper_s_protocols_say_what_is_printed_of_them():
    fig3, tab1, quick = (settings_of([f"protocol={name}"]) for name in ("fig3", "tab1", "quick"))
    pictures = 1_281_167
    assert fig3.recipe.steps * fig3.recipe.batch_size / pictures == pytest.approx(120, rel=1e-2)
    assert tab1.recipe.steps * tab1.recipe.batch_size / pictures == pytest.approx(1000, rel=1e-2)
    assert fig3.sampling.guidance_scale == 1
    assert (fig3.quality.samples, tab1.quality.samples, quick.quality.samples) == (50_000, 50_000, 5_000)
    assert {one.autoencoder.name for one in (fig3, tab1, quick)} == {SD3}
    assert all(one.quality.extractor.kind == "inception_v3" for one in (fig3, tab1, quick))


@pytest.mark.parametrize("turned", [False, True])
def test_what_stands_beside_a_protocol_wins_in_either_order(turned):
    def settings(*words):
        return settings_of(words[::-1] if turned else words)

    assert settings("protocol=fig3", "recipe.steps=7").recipe.steps == 7
    assert settings("protocol=fig3", "recipe=laptop").recipe == settings_of().recipe
    assert settings("protocol=fig3", "autoencoder=pixels").autoencoder.kind == "pixels"


@pytest.mark.parametrize("turned", [False, True])
def test_a_protocol_keeps_its_settings_beside_its_own_option_and_says_which_fall_beside_another(turned, capsys):
    """Naming what it chooses anyway changes nothing: 1,000 epochs stay 1,000."""

    def settings(*words):
        return settings_of(words[::-1] if turned else words)

    compose._say.cache_clear()
    tab1 = settings_of(["protocol=tab1"])
    assert settings("protocol=tab1", "recipe=full", "sampling=full", "autoencoder=kl") == tab1
    assert settings_of(["recipe=full"], {"protocol": "tab1"}) == tab1
    assert settings("protocol=tab1", "recipe=full", "recipe.steps=5").recipe.steps == 5
    assert capsys.readouterr().err == ""
    other = settings("protocol=tab1", "recipe=laptop")
    assert settings("protocol=tab1", "recipe=laptop") == other
    assert other.recipe == settings_of().recipe
    assert other.sampling == tab1.sampling
    assert capsys.readouterr().err == (
        "harness: recipe=laptop is not protocol=tab1's own: without its recipe.steps=1250000\n"
    ), "once"


def test_a_protocol_on_the_command_line_replaces_what_a_study_sets_in_its_groups_and_nothing_else():
    study = {"data": "fashion_mnist", "recipe": "laptop", "recipe.steps": 2000, "sampling.steps": 3, "seeds": [5]}
    settings = settings_of(["protocol=fig3"], study)
    assert identity(settings.recipe) == identity(settings_of(["protocol=fig3"]).recipe)
    assert (settings.sampling.steps, settings.seeds, settings.data.kind) == (25, (5,), "fashion_mnist")
    of_laptop = settings_of(["protocol=laptop"], study)
    assert of_laptop.recipe == settings_of().recipe, "its own number of steps, though the option is the same"


def test_a_study_s_changes_stay_with_its_own_protocol_and_go_with_another():
    study = {"protocol": "fig3", "recipe.steps": 9}
    assert settings_of([], study).recipe.steps == 9
    assert settings_of(["protocol=fig3"], study).recipe.steps == 9
    assert settings_of(["protocol=tab1"], study).recipe.steps == 1_250_000
    assert settings_of(["recipe=laptop"], study).recipe == settings_of().recipe
    assert settings_of(["recipe=laptop"], study).sampling.guidance_scale == 1


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("protocol=fig33", "unknown protocol 'fig33'; choose one of: fig3"),
        ("protocol=3", "protocol is one of fig3, laptop, quick, tab1, not 3"),
        ("protocol=null", "protocol is one of fig3, laptop, quick, tab1, not null"),
        ("protocol.steps=3", "a protocol has no settings of its own, such as 'protocol.steps'"),
    ],
)
def test_mistakes_are_one_sentence(word, sentence):
    with pytest.raises(UserError) as error:
        settings_of([word])
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("- a\n", "must hold settings, key: value"), ("recipee: full\n", "unknown group in .*: 'recipee'; choose one of")],
)
def test_a_protocol_of_ones_own_that_is_broken_is_one_sentence(content, sentence, tmp_path, monkeypatch):
    conf = tmp_path / "conf"
    conf.mkdir()
    for path in compose.CONF.iterdir():
        (conf / path.name).symlink_to(path) if path.name != "protocol" else (conf / "protocol").mkdir()
    (conf / "protocol" / "mine.yaml").write_text(content)
    monkeypatch.setattr(compose, "CONF", conf)
    with pytest.raises(UserError, match=sentence):
        settings_of(["protocol=mine"])


def test_a_protocol_of_ones_own_is_one_file(tmp_path, monkeypatch):
    conf = tmp_path / "conf"
    conf.mkdir()
    for path in compose.CONF.iterdir():
        (conf / path.name).symlink_to(path) if path.name != "protocol" else (conf / "protocol").mkdir()
    (conf / "protocol" / "mine.yaml").write_text("recipe: laptop\nrecipe.steps: 11\n")
    monkeypatch.setattr(compose, "CONF", conf)
    assert settings_of(["protocol=mine", "quality.samples=40"]).recipe.steps == 11
    assert protocol_name(settings_of(["recipe.steps=11"])) == "mine"
    assert protocol_name(settings_of(["recipe.steps=12"])) == "mine, but recipe.steps=12"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "laptop"),
        (["recipe.steps=20000", "protocol=fig3"], "fig3, but recipe.steps=20000"),
        (["protocol=fig3", "quality.samples=10000"], "fig3, but quality.samples=10000"),
        (["protocol=fig3", "autoencoder=pixels"], "fig3, but autoencoder=pixels"),
        (["sampling.rounding=dit"], "laptop, but sampling.rounding=dit"),
        (["protocol=quick", "quality.kid_full=false"], "quick, but quality.kid_full=false"),
        (["quality.extractor.resolution=96"], "laptop, but quality.extractor.resolution=96"),
        (["recipe.device=auto", "recipe.checkpoint_every=7", "launcher=debug", "seeds=[3]"], "laptop"),
        (["protocol=fig3", "recipe=laptop"], NO_NAME),
        (["count_only=true"], NO_NAME),
    ],
)
def test_settings_are_called_by_the_nearest_protocol_with_what_differs(words, name):
    assert protocol_name(settings_of(words)) == name


def test_a_record_is_called_as_its_settings_are():
    """Its sections have contents beside settings: of the extractor, and of the autoencoder that made its latents."""
    for words in ([], ["recipe.steps=20"], ["quality.extractor.resolution=96"]):
        settings = settings_of(words)
        assert protocol_name_of(prepare(settings).protocol.sections) == protocol_name(settings)
    assert protocol_name_of({"count": {"latent": 128}}) == NO_NAME


def test_a_record_in_sd3_s_latents_is_told_from_one_in_others():
    fig3 = settings_of(["protocol=fig3"])
    inception = {"kind": "inception_v3", "weights": "6726825d", "resolution": 299, "resize": "tensorflow-1-bilinear"}
    sections = {
        "recipe": identity(fig3.recipe),
        "sampling": identity(fig3.sampling),
        "quality": {**identity(fig3.quality), "extractor": inception},
        "autoencoder": SD3_LATENTS,
    }
    assert protocol_name_of(sections) == "fig3"
    sdxl = {**SD3_LATENTS, "channels": 4, "shift": 0.0, "scale": 0.13025}
    assert protocol_name_of({**sections, "autoencoder": sdxl}) == (
        "fig3, but autoencoder=kl with channels 4, scale 0.13025, shift 0, encoding sampled"
    )
    taef2 = {**SD3_LATENTS, "kind": "tiny", "channels": 32, "shift": 0.0, "scale": [1.33, 1.07], "encoding": "mean"}
    assert protocol_name_of({**sections, "autoencoder": taef2}) == (
        "fig3, but autoencoder=tiny with channels 32, scale measured, shift 0, encoding mean"
    )
    del sections["autoencoder"]
    assert protocol_name_of(sections) == "fig3, but autoencoder=pixels"
    adm = {**sections["quality"], "reference": "path", "reference_build": "adm", "reference_content": "abc"}
    assert protocol_name_of({**sections, "autoencoder": SD3_LATENTS, "quality": adm}) == (
        "fig3, but quality.reference=path, quality.reference_build=adm"
    )


@pytest.fixture
def with_my_vae(tmp_path, monkeypatch):
    """A protocol of one's own, of an autoencoder that is not on this machine."""
    conf = tmp_path / "conf"
    conf.mkdir()
    for path in compose.CONF.iterdir():
        (conf / path.name).symlink_to(path) if path.name != "protocol" else (conf / "protocol").mkdir()
    for path in (compose.CONF / "protocol").iterdir():
        (conf / "protocol" / path.name).symlink_to(path)
    mine = "recipe: full\nsampling: full\nsampling.guidance_scale: 3\nquality: fid\nautoencoder: kl\n"
    (conf / "protocol" / "mine.yaml").write_text(f"{mine}autoencoder.name: /nowhere/my_vae\n")
    monkeypatch.setattr(compose, "CONF", conf)


def test_a_protocol_whose_autoencoder_is_not_here_leaves_the_others_their_names(with_my_vae):
    """Where it could be the nearest it is passed over; where settings differ anyway its files are not asked for."""
    for name in ("fig3", "tab1", "quick", "laptop"):
        assert protocol_name(settings_of([f"protocol={name}"])) == name
    near_mine = settings_of(["protocol=fig3", "sampling.guidance_scale=3"])
    assert protocol_name(near_mine) == "fig3, but sampling.guidance_scale=3"
    with pytest.raises(UserError, match="my_vae"):
        protocol_name(settings_of(["protocol=mine"]))


def test_every_line_of_a_protocol_says_whose_it_is():
    """Of the paper's protocols each choice is labelled, or refers to the file that labels it."""
    for name in ("fig3", "tab1"):
        text = (Path(compose.CONF) / "protocol" / f"{name}.yaml").read_text()
        for line in text.splitlines():
            if line and not line.startswith(("#", " ", "autoencoder.")):
                assert "ours" in line.casefold() or "printed" in line, line
