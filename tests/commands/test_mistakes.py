"""Whatever a user gets wrong: one sentence that names it and says what to do, status 2, and nothing lost."""

import errno
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image
from tiny_study import SETTINGS

from harness.cli import main
from harness.records import store as store_module
from harness.records.store import Store
from harness.search.definition import OWN_SETTINGS, YAML_SETTINGS, SweepStudy
from harness.trials.settings import Settings

THIN = ("measure", "laptop/thin_sdxl", "--latent", "8")
FOLDER = ("data", "image_folder")
TINY_OVERRIDES = [f"{key}={value}".replace(" ", "") for key, value in SETTINGS.items() if key != "data"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("abalte fig3", "unknown verb 'abalte'; choose one of: ablate,"),
        ("evaluate", "required: NAME; `harness evaluate --help`"),
        ("ablate fig3 fig4", "unrecognized arguments: fig4"),
        ("ablate fig3 --quick", "unrecognized arguments: --quick"),
        ("ablate fig33", "'fig33'; choose one of: fig3,"),
        ("sweep labtop", "'labtop'; choose one of: laptop,"),
        ("sweep laptop space=full", "'space' stands in the YAML of the sweep laptop"),
        ("sweep laptop objectives.kid=maximize", "'objectives' stands in the YAML of the sweep laptop"),
        ("sweep laptop trails=3", "unknown setting 'trails'; choose one of: trials,"),
        ("sweep laptop sampler=tpee", "unknown sampler 'tpee'; choose one of: tpe,"),
        ("report fig33", "'fig33'; choose one of: fig3,"),
        ("ablate nowhere.yaml", "there is no file nowhere.yaml"),
        ("ablate laptop", "`harness sweep laptop` runs a sweep"),
        ("sweep fig3", "`harness ablate fig3` runs an ablation"),
        ("report fig3 out=nowhere", "run `harness ablate fig3` first"),
        ("promote labtop --rule best", "'labtop'; choose one of: laptop,"),
        ("promote laptop", "name one trial, or give a rule"),
        ("promote laptop --rule best out=nowhere", "there is no study in nowhere/laptop"),
        ("promote laptop --rule best recipe.stepz=3", "unknown setting 'recipe.stepz'; choose one of: recipe.steps,"),
        ("promote laptop --rule beast", "unknown rule 'beast'; choose one of: best,"),
        ("promote laptop --rule best --at-most macs=4", "--at-most goes with --rule limit"),
        (
            "promote laptop --rule limit --at-most macs=few",
            "a limit is a number, not 'few'; write --at-most macs=VALUE",
        ),
        ("clean seeds=[1]", "the only setting here is out=FOLDER, where the study lies, not seeds"),
        ("proxies labtop", "'labtop'; choose one of: laptop,"),
        ("proxies laptop recipe.stepz=3", "unknown setting 'recipe.stepz'; choose one of: recipe.steps,"),
        ("proxies fig3 recipe.stepz=3", "unknown setting 'recipe.stepz'; choose one of: recipe.steps,"),
        ("measure thin_sdxll", "unknown architecture 'thin_sdxll'; choose one of: thin_sdxl,"),
        ("measure nowhere.yaml", "cannot read the architecture nowhere.yaml"),
        ("train laptop/nothing", "unknown architecture 'laptop/nothing'"),
        ("export snapgenn", "unknown architecture 'snapgenn'; choose one of: snapgen,"),
        ("measure laptop/thin_sdxl feed_forwrd.ratio=3", "'feed_forwrd.ratio'; choose one of: feed_forward.ratio,"),
        ("measure laptop/thin_sdxl feed_forward.ratio=x", "'feed_forward.ratio' must be a number, not 'x'"),
        ("measure laptop/thin_sdxl self_attention=nqa", "mqa"),
        ("measure laptop/thin_sdxl --latent 7", "multiple of 4"),
        ("measure laptop/thin_sdxl --latent 0", "--latent is 1 to 4096"),
        ("measure laptop/thin_sdxl --latent big", "--latent"),
        ("ablate fig3 data=digts", "unknown data 'digts'; choose one of: digits, "),
        ("ablate fig3 launcher=slrum", "unknown launcher 'slrum'; choose one of: slurm,"),
        ("ablate fig3 recipe.stepz=3", "unknown setting 'recipe.stepz'; choose one of: recipe.steps,"),
        ("ablate fig3 recipe.steps=many", "'recipe.steps' must be a whole number, not 'many'"),
        ("ablate fig3 seeds=[0,0]", "seeds are different whole numbers"),
        ("ablate fig3 recipe.steps=3 recipe.steps=4", "'recipe.steps=3' and 'recipe.steps=4' set the same; keep one"),
        ("ablate fig3 recipe=full recipe=laptop", "'recipe=full' and 'recipe=laptop' set the same"),
        ("ablate fig3 +seeds=[0] seeds=[1]", "set the same"),
        ("sweep laptop trials=3 hours=1 trials=3", "'trials=3' and 'trials=3' set the same"),
        ("ablate fig3 limits.macs=3 limits={params:2}", "'limits={params:2}' undoes 'limits.macs=3' before it"),
        ("ablate fig3 limits={macs:1,params:2,macs:3}", "sets 'macs' twice in one mapping"),
        ("measure laptop/thin_sdxl feed_forward.ratio=3 feed_forward=gelu", "'feed_forward=gelu' undoes"),
        ("measure laptop/thin_sdxl --latent 8 --latent=16", "--latent is given twice; keep one of them"),
        ("measure laptop/thin_sdxl --lat 8", "unrecognized arguments: --lat 8"),
        ("ablate fig3 recipe.learning_rate=nan", "'recipe.learning_rate' must be a finite number, not nan"),
        ("sweep laptop hours=inf", "'hours' must be a finite number, not inf"),
        ("sweep laptop sampler_seed=-1", "sampler_seed is a whole number from 0 to"),
        ("data nothing", "unknown data 'nothing'; choose one of: digits,"),
        ("data image_folder", "give data.path=FOLDER"),
        ("ablate fig3 data=image_folder", "give data.path=FOLDER"),
        ("data image_folder data.path=/no/such/folder", "/no/such/folder"),
        ("latency queue", "required: FOLDER; `harness latency queue --help`"),
        ("latency total laptop/thin_sdxl", "required: --chip"),
        ("train laptop/thin_sdxl seeds=[99999999999999999999]", "seeds are different whole numbers"),
        ("train laptop/thin_sdxl out=", "'out' must be a path, not ''"),
        ("measure laptop/thin_sdxl --latent 1000000000", "--latent is 1 to 4096"),
        ("ablate fig3 --out runs", "written without dashes, and with its value: out=runs"),
        ("ablate fig3 --recipe.steps=4", "written without dashes, and with its value: recipe.steps=4"),
        ("sweep laptop --trials 4", "written without dashes, and with its value: trials=4"),
        ("ablate fig3 recipe.steps", "with its value: recipe.steps=VALUE"),
        ("ablate fig3 =5", "a setting is written key=value"),
        ("ablate fig3 recipe.steps==5", "write one equals sign: recipe.steps=5"),
        ("ablate fig3 recipe.steps=1,000", "a number is written without commas, recipe.steps=1000,"),
        ("ablate fig3 recipe=null", "recipe is one of full, laptop, laptop_decoder, not null; write recipe=NAME"),
        ("ablate fig3 recipe={steps:4}", 'not {"steps":4}; write recipe=NAME, and a setting of it as recipe.SETTING'),
        ("ablate fig3 seeds=0", "'seeds' must be a list, not 0; write [0]"),
        ("ablate fig3 seeds=3", "not 3; write [3] for that seed, or [0,1,2] for 3 of them"),
        ("sweep laptop budgets=40", "'budgets' must be a list, not 40; write [40]"),
        ("ablate fig3 launcher.partition=gpu", "a setting of launcher=slurm, and launcher is local; choose that, or"),
        ("ablate fig3 quality.extractor.weights=/x", "a setting of quality=fid, and quality is laptop"),
        ("ablate fig3 data.path=/x", "a setting of data=emoji or data=fashion_mnist or data=image_folder or"),
        ("ablate fig3 limits.params=1.5", "harness: 'limits.params' must be a whole number, not 1.5"),
        ("ablate fig3 limits.latency_ms={at_most:nan,chip:A14}", "limits.latency_ms.at_most' must be a finite number"),
        ("ablate fig3 limits.latency_ms={at_most:-1,chip:A14}", "harness: limits.latency_ms.at_most is above 0 ms"),
        ("report fig3 recipe.steps=3", "the only setting here is out=FOLDER, where the study lies, not recipe.steps"),
        ("ablate fig3 limits.latency_ms.at_most=3", "missing setting 'limits.latency_ms.chip', which has no default"),
        ("ablate fig3 launcher.timeout_min=nan", "'launcher.timeout_min' must be a finite number, not nan"),
        ("sweep laptop hours=nan", "'hours' must be a finite number, not nan"),
        ("sweep laptop wait_hours=inf", "'wait_hours' must be a finite number, not inf"),
        ("sweep laptop sampler_seed=-1", "sampler_seed is a whole number from 0 to 2147483647, not -1"),
        ("sweep laptop sampler_seed=1e12", "sampler_seed is a whole number from 0 to"),
        ("sweep laptop +trials=0", "trials is at least 1, not 0"),
        ("measure laptop/thin_sdxl stages.*.up_blocks=100000000", "at most 65,536: stages.0.up_blocks is 100000000"),
        ("measure laptop/thin_sdxl feed_forward.ratio=1e300", "at most 65,536: feed_forward.ratio is 1e+300"),
        ("config fig3 data.path=/x", "a setting of data=emoji or"),
        ("config fig3 latent=9", "latent=9 does not fit the architecture"),
        ("config laptop report=nothing", "unknown name in reports/: 'nothing'"),
        ("config recipee", "unknown study or group of settings 'recipee'; choose one of: recipe,"),
        ("space laptop --twin nothing", "harness: unknown architecture 'nothing'"),
        ("ablate fig3 twin.base=nothing", "harness: twin.base: unknown architecture 'nothing'"),
        ("space laptop --samples 1 --latent 7", "a latent of this architecture is a multiple of 4, not 7"),
        ("space laptop --seed -1", "--seed is a whole number from 0"),
        ("evaluate nothing", "nor a folder or a file of images or statistics"),
        ("train laptop/thin_sdxl quality=fid tracker=none", "quality.extractor.weights=PATH"),
        ("train laptop/thin_sdxl sampling.guidance_scale=2 sampling.legacy_guided_channels=3", "the network has 1;"),
        ("train laptop/thin_sdxl text=huggingface text.name=/no/such", "text.name"),
    ],
)
def test_a_mistake_is_one_sentence(words, sentence, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside any clone: studies are found in the repository
    assert sentence in refused(*words.split())
    assert not (tmp_path / "runs" / "store").exists()


@pytest.mark.slow
def test_a_mistyped_word_is_noticed_before_torch_is_loaded():
    code = "import sys; from harness.cli import main; print([main(words.split()) for words in sys.argv[1:]]); "
    code += "sys.exit('torch' in sys.modules)"
    words = [
        "proxies labtop",
        "proxies fig3 recipe.stepz=3",
        "promote laptop --rule best recipe.stepz=3",
        "clean seeds=[1]",
    ]
    process = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (process.returncode, process.stdout.strip()) == (0, "[2, 2, 2, 2]"), process.stderr


def test_folders_without_images_say_what_is_missing(refused, tmp_path):
    (tmp_path / "flat").mkdir()
    assert "has no class folders" in refused(*FOLDER, f"data.path={tmp_path / 'flat'}")
    Image.new("RGB", (32, 32)).save(tmp_path / "flat" / "a.png")
    assert "has no class folders" in refused(*FOLDER, f"data.path={tmp_path / 'flat'}")
    (tmp_path / "empty" / "cats").mkdir(parents=True)
    assert str(tmp_path / "empty") in refused(*FOLDER, f"data.path={tmp_path / 'empty'}")
    assert "0 readable images" in refused("evaluate", str(tmp_path / "empty"), f"out={tmp_path / 'out'}")


@pytest.mark.parametrize(
    "verb", ["ablate tiny", "ablate tiny --dry-run", "sweep search --dry-run", "train laptop/thin_sdxl"]
)
def test_a_file_where_the_output_should_go(verb, refused, workplace):
    (workplace / "occupied").write_text("mine")
    assert "give another out=FOLDER" in refused(*verb.split(), "out=occupied", *TINY_OVERRIDES)
    assert (workplace / "occupied").read_text() == "mine"


EMPTY, LIST, BINARY = b"", b"- a\n- b\n", bytes(range(256))
LADDER, SEARCH = b"architecture: {ladder: fig3}\n", b"space: laptop\nobjectives: {kid: minimize}\n"
KNOB = b"base: laptop/thin_sdxl\nknobs:\n  mine: "
PREDICT = "latency predict laptop/thin_sdxl --latent 8 --chip A15 --calibration"


@pytest.mark.parametrize(
    ("words", "content", "sentence"),
    [
        ("measure file.yaml", EMPTY, "file.yaml: an architecture is a mapping of knobs"),
        ("measure file.yaml", LIST, "file.yaml: an architecture is a mapping of knobs"),
        ("measure file.yaml", BINARY, "file.yaml is not YAML"),
        ("train file.yaml", b"base: laptop/thin_sdxl\nedits: 3\n", "file.yaml: 'architecture.edits' must map"),
        ("ablate file.yaml", EMPTY, "file.yaml must hold a mapping of settings, key: value, and it is empty"),
        ("ablate file.yaml", b"spaces: laptop\n", "neither an ablation, which has 'architecture', nor a sweep"),
        ("sweep file.yaml", b"spaces: laptop\n", "it has spaces"),
        ("sweep file.yaml", BINARY, "file.yaml is not YAML"),
        ("space file.yaml", LIST, "file.yaml must hold a mapping of settings, key: value, not a list"),
        (
            "ablate file.yaml",
            LADDER + b"protocol: fig3",
            "file.yaml: 'protocol' is one of the settings; write",
        ),
        ("ablate file.yaml", LADDER + b"recipe.steps: 3", "under them, settings: {recipe.steps: ...}"),
        ("ablate file.yaml", LADDER + b"settings: {recipe.stepz: 3}", "file.yaml: unknown setting 'recipe.stepz'"),
        ("ablate file.yaml seeds=[3]", LADDER + b"settings: {data: digts}", "file.yaml: unknown data 'digts'"),
        ("ablate file.yaml", b"architecture: {ladder: fig3, bas: x}", "file.yaml: unknown setting 'architecture.bas'"),
        (
            "sweep file.yaml",
            b"space: no\nobjectives: {kid: minimize}",
            "file.yaml: unknown name in search_spaces/: 'no'",
        ),
        ("sweep file.yaml", SEARCH + LADDER, "has both 'architecture', as an ablation has it, and 'space', as a sweep"),
        ("sweep file.yaml", SEARCH + b"seeds: [0]", "file.yaml: 'seeds' is one of the settings"),
        (
            "sweep file.yaml",
            SEARCH + b"settings: {trials: 3}",
            "file.yaml: 'trials' is the study's own, and none",
        ),
        ("sweep file.yaml trials=3", SEARCH + b"sampler: tpee", "file.yaml: unknown sampler 'tpee'"),
        ("config file.yaml", SEARCH + b"latent: 8", "file.yaml: 'latent' is one of the settings"),
        ("space file.yaml", KNOB + b"{path: condition}", "file.yaml: knob 'mine': a knob has exactly one of choices"),
        ("space file.yaml", KNOB + b"{path: nothing, choices: [1]}", "file.yaml: knob 'mine', value 1: unknown"),
        (f"{PREDICT} file.yaml", EMPTY, "file.yaml is not a calibration"),
        (f"{PREDICT} file.yaml", BINARY, "file.yaml is not a calibration"),
        ("export laptop/thin_sdxl --latent 8 --weights file.yaml", LIST, "is no safetensors file"),
        ("export laptop/thin_sdxl --latent 8 --weights .", EMPTY, "is a folder; give the file, ema.safetensors"),
    ],
)
def test_a_file_that_is_something_else(words, content, sentence, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file.yaml").write_bytes(content)
    assert sentence in refused(*words.split())


@pytest.mark.parametrize(
    ("words", "work"),
    [
        ("export laptop/thin_sdxl --latent 8 --to PLACE.mlpackage", "harness.models.build.build"),
        ("latency calibrate --to PLACE.yaml", "harness.predictor.published.published_points"),
        ("promote laptop --rule best --to PLACE.yaml", "harness.search.promote.candidates"),
        ("data digits --to PLACE.png", "harness.data.dataset.load_dataset"),
    ],
)
@pytest.mark.parametrize("place", ["occupied/x", "there"])
def test_a_place_that_cannot_be_written_is_noticed_before_the_work(words, work, place, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("occupied").write_text("mine")
    suffix = words[words.index("PLACE") + len("PLACE") :]
    taken = Path(f"there{suffix}")
    taken.touch() if suffix == ".mlpackage" else taken.mkdir()
    monkeypatch.setattr(work, None)
    assert "another place" in refused(*words.replace("PLACE", place).split())
    assert Path("occupied").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(refused, workplace):
    (workplace / "locked").mkdir(mode=0o555)
    assert "does not let you" in refused("ablate", "tiny", "out=locked/runs")


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_finished(refused, workplace, monkeypatch, capsys):
    """The disk fills when the second trial is stored; with space again, the same command trains only that one."""
    replace, stored = store_module.os.fsync, []

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.parent.name == "trials":
            stored.append(path)
            if len(stored) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(descriptor)

    with monkeypatch.context() as disk:
        disk.setattr(store_module.os, "fsync", fsync)
        status = main(["ablate", "tiny"])
    printed = capsys.readouterr()
    assert status != 0
    assert "No space left on device; free some space and run the same command again" in printed.err
    assert "Traceback" not in printed.err
    (first,) = [record.key for record in Store(workplace / "runs" / "store").trials() if record.state == "complete"]
    before = (workplace / "runs" / "store" / "trials" / f"{first}.json").stat().st_mtime_ns
    assert main(["ablate", "tiny"]) == 0
    records = list(Store(workplace / "runs" / "store").trials())
    assert [record.state for record in records] == ["complete", "complete"]
    assert (workplace / "runs" / "store" / "trials" / f"{first}.json").stat().st_mtime_ns == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_really_full_disk(refused, workplace):
    place = workplace / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        assert "free some space" in refused("ablate", "tiny", f"out={place}")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_no_network_for_a_text_encoder(refused, workplace, monkeypatch):
    def unreachable(*_args, **_options):
        raise ConnectionError("Network is unreachable")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    error = refused("ablate", "tiny", "text=huggingface", "text.name=openai/clip-vit-large-patch14")
    assert "openai/clip-vit-large-patch14" in error
    assert "check the name and the network" in error


def test_going_online_without_a_key_is_refused_before_anything_is_trained(refused, workplace, monkeypatch):
    monkeypatch.setattr("harness.tracking.config._has_key", lambda: False)
    assert "wandb login" in refused("ablate", "tiny", "tracker=wandb", "tracker.mode=online")
    assert not (workplace / "runs" / "tiny").exists()


def test_a_record_that_cannot_be_read_is_named_and_left_alone(refused, workplace, capsys):
    assert main(["ablate", "tiny", "count_only=true"]) == 0
    capsys.readouterr()
    broken = sorted((workplace / "runs" / "store" / "trials").glob("*.json"))[0]
    broken.write_text("{half a rec")
    sentence = f"{broken.name} is not a record this version can read"
    assert sentence in refused("ablate", "tiny", "count_only=true")
    assert main(["report", "tiny"]) == 0
    assert sentence in Path(capsys.readouterr().out.strip()).read_text()
    assert broken.read_text() == "{half a rec"


@pytest.mark.parametrize("content", ["- a\n- b\n", "architecture: [\n", "architecture: {base: laptop/nothing}\n"])
def test_a_broken_study_is_named(content, refused, workplace):
    (workplace / "sweeps" / "broken.yaml").write_text(content)
    error = refused("ablate", "broken")
    assert "broken.yaml" in error or "architecture" in error


def test_a_sweeps_help_lists_the_settings_that_are_its_own(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    output = " ".join(capsys.readouterr().out.split())
    assert f"its own, beside those that `harness settings` lists: {', '.join(OWN_SETTINGS)}" in output
    both = {"twin"}  # the YAML may name it by itself, and it is one of config.yaml's settings
    assert {*OWN_SETTINGS, *YAML_SETTINGS, *both} == {field.name for field in fields(SweepStudy)}
    assert both <= {field.name for field in fields(Settings)}
