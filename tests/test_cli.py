"""The command line: help and examples that are true, a light start, one JSON object where it is asked for."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.architecture.catalogue import catalogue_names
from harness.cli import main
from harness.commands import data_prepare
from harness.commands.verb import NAMES, overview, parse, split_verb, verb
from harness.records.terminal import prepare_streams
from harness.search.definition import sweep_study
from harness.trials.compose import groups
from harness.trials.settings import settings_of
from harness.trials.studies import read_study

VERBS = {name: verb(name) for name in NAMES}
README = Path(__file__).parent.parent / "README.md"
HEAVY = ("torch", "coremltools", "transformers", "hydra", "optuna", "sklearn", "wandb")
ARCHITECTURE_VERBS = ("measure", "export", "train", "compare", "draw")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], []])
def test_the_overview_names_every_verb_and_shows_an_example(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in VERBS)
    assert "for example: harness " in shown


@pytest.mark.parametrize("program", ["harness", "harness.cli"])
def test_the_version_is_that_of_the_package(program):
    ended = subprocess.run([sys.executable, "-m", program, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"unet-harness {version('unet-harness')}\n"


INTERRUPTED_WHILE_IMPORTING = """
import sys
class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt
before = set(sys.modules)
import harness.cli
light = {"harness", "harness.cli", "__future__"}
assert set(sys.modules) - before <= light, "a Ctrl-C during such an import would be a traceback"
sys.meta_path.insert(0, Interrupts())
sys.exit(harness.cli.main(["measure", "laptop/thin_sdxl", "--latent", "8"]))
"""


@pytest.mark.parametrize("module", ["harness.commands.verb", "harness.records.errors", "yaml", "torch"])
def test_ctrl_c_at_any_moment_is_a_sentence(module):
    """While the command line's own modules are imported, too."""
    code = [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING, module]
    ended = subprocess.run(code, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "harness: stopped; the same command continues\n")


def test_ctrl_c_that_a_library_answers_with_an_error_is_a_sentence(monkeypatch, capsys):
    """OmegaConf cleans up what it has not made yet, and its cleaning fails."""

    def interrupted(_words):
        try:
            raise KeyboardInterrupt
        finally:
            raise AttributeError("'NoneType' object has no attribute '_invalidate_flags_cache'")

    monkeypatch.setattr("harness.commands.verb.run", interrupted)
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "harness: stopped; the same command continues\n"


@pytest.mark.parametrize("words", ["--version", "knobs", "ablate --help"])
@pytest.mark.parametrize("target", ["a pipe", "/dev/full"])
def test_output_that_nobody_takes_is_no_traceback(words, target):
    """Neither when it is written nor when Python ends, which tries once more."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    read, write = os.pipe()
    os.close(read)
    out = write if target == "a pipe" else os.open(target, os.O_WRONLY)
    command = [sys.executable, "-m", "harness", *words.split()]
    ended = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, env=environment)
    said = ended.stderr.splitlines()
    assert ended.returncode in (0, 1), "argparse takes no notice of a help text that was not written"
    assert all(target != "a pipe" and "No space left on device" in line for line in said)
    assert len(said) <= 1
    os.close(out)


def test_a_pipe_gets_each_line_when_it_is_written():
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, os.fdopen(read) as reader:
        prepare_streams(stream)
        print("a line", file=stream)
        assert reader.readline() == "a line\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["measure laptop/thin_sdxl --latent 8", "compare mqa first_stage_ca", "settings data", "--help"]
)
def test_a_terminal_without_utf_8_shows_everything(words):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "harness", *words.split()]
    ended = subprocess.run(command, capture_output=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.isascii()


def test_the_command_that_a_study_keeps_can_be_typed_again():
    words = ["my study.yaml", "seeds=[0,1]", "out=a b", "recipe.steps=4"]
    assert shlex.split(parse("ablate", words).command) == ["harness", "ablate", *words]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_exits_0_and_shows_its_example(verb, capsys):
    with pytest.raises(SystemExit) as ending:
        main([*verb.split(), "--help"])
    assert ending.value.code == 0
    shown = capsys.readouterr().out
    assert VERBS[verb].example in shown
    assert VERBS[verb].operands in shown


def loaded_by(code: str) -> set[str]:
    """Top-level packages in memory after `code`, run by a new Python."""
    script = f"import sys\n{code}\nprint('|'.join({{name.split('.')[0] for name in sys.modules}}), file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(ended.stderr.strip().splitlines()[-1].split("|"))


@pytest.mark.parametrize(
    "code",
    [
        "from harness.cli import main; main(['--help'])",
        "from harness.cli import main\ntry: main(['sweep', '--help'])\nexcept SystemExit: pass",
        "from harness.cli import main; main(['nonsense'])",
    ],
)
def test_the_start_is_light(code):
    loaded = loaded_by(code)
    assert "harness" in loaded
    assert not loaded & {*HEAVY, "numpy", "pandas", "plotly", "yaml", "rich"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("sweep laptop recipe.stepz=3", {"hydra", "optuna"}),
        ("measure laptop/thin_sdxl feed_forwrd.ratio=3", {"hydra"}),
    ],
)
def test_a_mistyped_setting_is_answered_before_anything_heavy_is_loaded(words, allowed):
    code = f"from harness.cli import main; assert main({words.split()}) == 2"
    assert not loaded_by(code) & set(HEAVY) - allowed


def test_the_help_calls_an_operand_as_the_usage_line_does(capsys):
    for name, operand in {
        "latency queue": "FOLDER",
        "latency total": "UNET",
        "compare": "A",
        "measure": "NAME",
    }.items():
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        shown = capsys.readouterr().out
        assert re.search(rf"^usage: harness {name} \W*{operand}\b", shown, re.MULTILINE)
        assert re.search(rf"^  {operand} ", shown, re.MULTILINE)


def test_reporting_loads_no_torch_and_no_core_ml():
    loaded = loaded_by("import harness.reporting.report")
    assert "pandas" in loaded
    assert not loaded & set(HEAVY)


def test_measure_prints_one_json_object_and_nothing_else(capsys):
    assert main(["measure", "laptop/thin_sdxl", "--latent", "8", "--json"]) == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    cost = json.loads(line)
    assert cost["name"] == "laptop/thin_sdxl"
    assert cost["latent"] == 8
    assert re.fullmatch(r"[0-9a-f]{16}", cost["fingerprint"])
    assert all(cost[name] > 0 for name in ("params", "macs", "macs_without_attention", "flops_fvcore"))
    assert cost["macs_without_attention"] < cost["macs"]
    assert printed.err == ""


def test_measure_counts_the_published_network_at_its_published_size(capsys):
    assert main(["measure", "snapgen", "--latent", "128", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["params"] == pytest.approx(372e6, rel=0.03)  # SnapGen, Tab. 1 prints 372 M


def test_a_knob_on_the_command_line_makes_another_architecture(capsys):
    measure = ["measure", "laptop/thin_sdxl", "--latent", "8", "--json"]
    main(measure)
    main([*measure, "feed_forward.ratio=2"])
    before, after = map(json.loads, capsys.readouterr().out.splitlines())
    assert after["fingerprint"] != before["fingerprint"]
    assert after["params"] < before["params"]


def examples() -> list[str]:
    """Every `harness ...` line: the verbs' examples, the overview's, and the README's indented commands."""
    documented = [line.split("#")[0].strip() for line in README.read_text().splitlines() if line.startswith("    ")]
    shown = [*documented, *(verb.example for verb in VERBS.values()), overview().rsplit("example: ", 1)[1]]
    return sorted({line for line in shown if re.match(r"harness [a-z]+( |$)", line)})


def test_there_are_examples_in_the_readme():
    assert len(examples()) > len(VERBS) / 2


@pytest.mark.parametrize("line", examples())
def test_every_example_names_what_exists(line):
    """Parsed, its study or architecture found, its settings composed and made; nothing is run."""
    verb, words = split_verb(shlex.split(line)[1:])
    arguments = parse(verb, words)
    if verb == "ablate":
        defaults = read_study("sweeps", arguments.name).get("settings", {})
        assert settings_of(arguments.overrides, defaults)
    elif verb == "sweep":
        assert sweep_study(arguments.name, arguments.overrides)
    elif verb == "data prepare":
        assert data_prepare.check(arguments) is None
    elif verb in ("promote", "report"):
        assert read_study("sweeps", arguments.name)
    elif verb == "space":
        assert read_study("search_spaces", arguments.name)
    elif verb in ARCHITECTURE_VERBS:
        names = [arguments.name, getattr(arguments, "other", None)]
        assert all(n in (*catalogue_names(), "paper") or n.endswith(".yaml") for n in names if n is not None)
        assert verb != "train" or settings_of(arguments.overrides)
    else:
        chosen = [f"data={arguments.name}"] if verb == "data" and arguments.name in groups()["data"] else []
        assert settings_of([*chosen, *arguments.overrides])


def test_a_path_with_an_equals_sign_is_a_name_and_no_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lr=0.1.yaml", "steps=9/wide.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
        arguments = parse("measure", ["--latent", "64", "feed_forward.ratio=3", name])
        assert (arguments.name, arguments.overrides) == (name, ["feed_forward.ratio=3"])
    assert parse("measure", ["not/there=1.yaml", "a=1"]).name == "not/there=1.yaml"


def test_words_are_taken_in_any_order():
    first = parse("measure", ["snapgen", "feed_forward.ratio=3", "--latent", "64"])
    second = parse("measure", ["--latent", "64", "feed_forward.ratio=3", "snapgen"])
    assert (first.name, first.latent, first.overrides) == (second.name, second.latent, second.overrides)


def test_an_edit_may_name_every_stage(capsys):
    assert main(["measure", "laptop/thin_sdxl", "--latent", "8", "--json", "stages.*.up_blocks=1"]) == 0
    fewer = json.loads(capsys.readouterr().out)
    assert main(["measure", "laptop/thin_sdxl", "--latent", "8", "--json"]) == 0
    assert fewer["params"] < json.loads(capsys.readouterr().out)["params"]


@pytest.mark.parametrize("words", [["latency"], ["latency", "--help"]])
def test_a_group_of_verbs_shows_its_own(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "latency predict" in shown
    assert "ablate" not in shown.split("for example")[0]


def test_weights_of_another_network_are_refused_in_a_sentence(tmp_path, capsys):
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / "ema.safetensors")
    command = ["export", "laptop/thin_sdxl", "--latent", "8", "--to", str(tmp_path / "a.mlpackage"), "--weights"]
    assert main([*command, str(tmp_path / "ema.safetensors")]) == 2
    assert "does not say of which architecture its weights are" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "none.safetensors")]) == 2
    assert "cannot read" in capsys.readouterr().err
    assert not (tmp_path / "a.mlpackage").exists()
