"""What a study would take: by arithmetic, and against what trainings, checkpoints and prepared folders really have."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_study import ABLATION, tiny_spec, write_yaml

from harness.cli import main
from harness.data.prepare import PrepareConfig
from harness.launch.config import SlurmLauncher
from harness.records.quantity import Counted, Measured
from harness.records.store import Store
from harness.training.parallel_config import DdpParallel
from harness.trials import estimates
from harness.trials.ablation_study import ablation_study
from harness.trials.estimates import (
    ASSUMED_TFLOPS,
    CHECKPOINT_BYTES,
    Training,
    estimate,
    estimate_lines,
    scoring_flops,
    throughput_of,
    training_of,
)
from harness.trials.outcomes import record_of
from harness.trials.preparing import prepare_folder
from harness.trials.scored_at import ScoredAt
from harness.trials.scores.request import sampling_grid
from harness.trials.settings import settings_of
from harness.trials.study_data import (
    IMAGENET,
    data_bytes,
    fitted_to_latents,
    how_to_prepare,
    latent_of,
    pictures_of,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

FIG3 = ("protocol=fig3", "data=prepared")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_compute_is_the_formula_of_the_page(store):
    """One forward pass of 10 G multiply-adds; 150,000 steps of 1,024; 50,000 samples of 49 evaluations by Heun."""
    settings = settings_of(["launcher.tflops=400"], {"protocol": "fig3", "data": "prepared"})
    one = Training(params=300_000_000, macs=10_000_000_000, steps=150_000)
    estimated = estimate([one, one], settings, IMAGENET, ())
    assert estimated.training_flops == 2 * 6 * 1e10 * 1024 * 150_000
    assert settings.sampling.evaluations == 49
    assert estimated.scoring_flops == 2 * 2 * 1e10 * 49 * 50_000
    assert estimated.hours == pytest.approx((estimated.training_flops + estimated.scoring_flops) / 400e12 / 3600)
    assert estimated.longest_hours == pytest.approx(estimated.hours / 2)
    recomputed = replace(settings, recipe=replace(settings.recipe, gradient_checkpointing=True))
    assert estimate([one], recomputed, IMAGENET, ()).training_flops == 8 * 1e10 * 1024 * 150_000
    half = replace(one, begins_at=75_000)
    assert estimate([half], settings, IMAGENET, ()).training_flops == 6 * 1e10 * 1024 * 75_000


def test_a_teacher_is_a_forward_pass_a_picture_and_tells_which_rates_are_alike(store, tmp_path):
    """It is told in the sum and for itself; a training's own rate counts what its teacher did."""
    settings = settings_of(["recipe.device=cpu"], {"recipe.batch_size": 64})
    plain = Training(params=1, macs=10_000_000, steps=100, fingerprint="f")
    taught = replace(plain, teacher_macs=30_000_000)
    estimated = estimate([plain, taught], settings, pictures_of(settings), ())
    own, teachers = 6 * 1e7 * 64 * 100, 2 * 3e7 * 64 * 100
    assert (estimated.training_flops, estimated.taught_flops) == (2 * own + teachers, teachers)
    assert estimated.step_flops == (own + teachers) / 100
    lines = "\n".join(estimate_lines(estimated, settings))
    assert "of it 384 GFLOP of teachers' forward passes, 2 FLOP a multiply-add" in lines
    assert "teachers" not in "\n".join(estimate_lines(estimate([plain], settings, pictures_of(settings), ()), settings))
    twice = replace(taught, batch_size=128)
    assert estimate([twice], settings, pictures_of(settings), ()).training_flops == 2 * (own + teachers)


def test_guidance_doubles_what_scores_take():
    plain, guided = (settings_of([*FIG3, f"sampling.guidance_scale={scale}"]) for scale in (1, 1.5))
    one = Training(params=1, macs=10, steps=1)
    assert scoring_flops(one, guided) == 2 * scoring_flops(one, plain)
    own = replace(one, score_passes=3 * plain.sampling.evaluations)
    assert scoring_flops(own, plain) == 3 * scoring_flops(one, plain), "of a rung that is scored otherwise"


def test_scores_at_other_settings_are_passes_of_each_network_after_the_trainings(workplace, capsys):
    """By arithmetic, and told by a dry run."""
    settings = settings_of(["launcher.tflops=1"], {"recipe.batch_size": 64})
    grid = ScoredAt(steps=(1, 4), guidance=(1.0, 1.5), solvers=("euler", "heun")).grid(settings.sampling)
    one = Training(params=1, macs=10_000_000, steps=100, score_passes=5)
    found = estimate([one, replace(one, macs=30_000_000)], settings, IMAGENET, (), grid=grid)
    passes = 1 + 2 + 4 + 8 + 7 + 14  # of Euler's and Heun's steps, and twice with guidance
    assert found.after_flops == 2 * 4e7 * passes * settings.quality.samples
    without = estimate([one, replace(one, macs=30_000_000)], settings, IMAGENET, ())
    assert found.hours == pytest.approx(without.hours + found.after_flops / 1e12 / 3600)
    assert (found.longest_hours, without.after_flops) == (without.longest_hours, 0)
    write_yaml(Path("sweeps/at.yaml"), {**ABLATION, "scored_at": {"steps": [1, 4]}})
    assert main(["ablate", "at", "--dry-run", "launcher.tflops=0.001"]) == 0
    printed = capsys.readouterr().out
    assert "all are then scored at 2 settings of sampling, where they are not yet: steps 1, 4" in printed
    assert re.search(r"of sampling for scores, \d\S* \wFLOP for those at scored_at", printed)


def test_a_checkpoint_has_the_bytes_that_are_reckoned(tmp_path):
    from tiny_training import run

    trained = run(tmp_path)
    params = sum(each.numel() for each in trained.model.parameters())
    (newest, *_) = sorted(tmp_path.rglob("tensors.safetensors"), reverse=True)
    overhead = 200 * 4 * len(list(trained.model.parameters()))  # names and shapes, and AdamW's step numbers
    assert CHECKPOINT_BYTES * params <= newest.stat().st_size <= CHECKPOINT_BYTES * params + overhead


def test_imagenet_s_latents_are_as_large_as_the_formats_say():
    """Means and deviations of 16 channels at 32 x 32, float16: 42 GB of means, as much of deviations."""
    settings = settings_of([*FIG3, "quality.reference=heldout"])
    assert latent_of(settings, IMAGENET) == (16, 32)
    means = 1_281_167 * 16 * 32 * 32 * 2
    assert means == pytest.approx(42e9, rel=0.01)
    pictures = (50_000 + 5_000) * 3 * 256 * 256
    assert data_bytes(settings, IMAGENET) == 2 * (means + 50_000 * 32_768) + pictures
    assert data_bytes(settings_of([*FIG3, "quality.reference=heldout", "autoencoder.encoding=mean"]), IMAGENET) == (
        means + 50_000 * 32_768 + pictures
    )
    all_kept = data_bytes(settings_of(FIG3), IMAGENET)
    assert all_kept == 2 * (means + 50_000 * 32_768) + (1_281_167 + 50_000) * 3 * 256 * 256


def test_a_prepared_folder_has_the_bytes_that_are_reckoned(tmp_path):
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "images" / ("red", "blue")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    source = ["data=image_folder", f"data.path={tmp_path / 'images'}", "data.size=16", f"out={tmp_path / 'runs'}"]
    prepare_folder(settings_of([*source, "launcher=debug"]), PrepareConfig(to=tmp_path / "prepared"))
    settings = settings_of(["data=prepared", f"data.path={tmp_path / 'prepared'}"])
    pictures = pictures_of(settings)
    assert pictures.is_here
    assert pictures.train + pictures.heldout == 40
    really = data_bytes(settings, pictures)
    reckoned = data_bytes(settings, replace(pictures, is_here=False))
    index = (tmp_path / "prepared" / "index.npy").stat().st_size
    assert really == reckoned + 4 * 128 + index, "and the headers of four files, and the classes"
    assert not settings.lacks_data
    assert settings_of(["data=prepared"]).lacks_data
    assert not settings_of(["data=prepared", "count_only=true"]).lacks_data
    assert not settings_of().lacks_data


def test_throughput_is_what_is_said_else_measured_else_assumed(store, workplace):
    gpu, cpu = settings_of(FIG3), settings_of(["recipe.device=cpu"])
    assert throughput_of(gpu, store.trials()).flops == ASSUMED_TFLOPS * 1e12
    assert "assumed" in throughput_of(gpu, store.trials()).source
    assert throughput_of(cpu, store.trials()).flops is None, "no processor is assumed"
    for seed, (device, seconds) in enumerate((("cpu", 50.0), ("NVIDIA H100", 2.0), ("NVIDIA H100", 4.0))):
        spec = tiny_spec(seed=seed)
        macs, taken = 1_000_000_000, Measured(value=seconds, unit="s", conditions={"device": device})
        counts = {"macs": Counted(value=macs, unit="multiply-adds", conditions={"latent": 8}), "train_seconds": taken}
        store.put(record_of(spec, "complete", counts))
    flops = 6 * 1e9 * 8 * 6  # six steps of eight pictures
    on_gpu = throughput_of(gpu, store.trials())
    assert on_gpu.flops == pytest.approx((flops / 2 + flops / 4) / 2)
    assert (
        on_gpu.source
        == "scaled from other networks, batches or cuts: the median of 2 trainings in the store on NVIDIA H100"
    )
    assert throughput_of(cpu, store.trials()).flops == pytest.approx(flops / 50)
    assert throughput_of(settings_of([*FIG3, "launcher.tflops=7"]), store.trials()).flops == 7e12
    own = [training_of(spec.architecture, 8, spec.settings)]
    told = "measured: the median of 1 training of this very network, batch and cut in float32 in the store on cpu"
    alike = settings_of(["recipe.device=cpu", "recipe.batch_size=8", "recipe.precision=auto"])
    assert throughput_of(alike, store.trials(), own).source == told
    for other in ("recipe.batch_size=16", "recipe.micro_batch=4", "recipe.compile=true", "launcher=slurm"):
        words = (
            [other, "launcher.gpus=0", "launcher.processes=2", "parallel=ddp"] if other == "launcher=slurm" else [other]
        )
        scaled = settings_of(["recipe.device=cpu", "recipe.batch_size=8", *words])
        assert throughput_of(scaled, store.trials(), own).source.startswith("scaled from other networks"), other
    assert throughput_of(gpu, store.trials(), own) == on_gpu, "of it in bfloat16 there is none"
    others = [*own, replace(own[0], fingerprint="another")]
    assert throughput_of(cpu, store.trials(), others).source.endswith("the median of 1 training in the store on cpu")
    taught = [replace(own[0], teacher_macs=7)]
    assert throughput_of(alike, store.trials(), taught).source.startswith("scaled from other networks"), (
        "it had no teacher"
    )


def test_the_hours_of_all_processes_count_and_a_job_is_shorter_by_them(store):
    """Of two nodes with four GPUs each: their training is as much work as one's, and eight wait for the scores."""
    one = Training(params=1, macs=10_000_000_000, steps=150_000)
    alone = settings_of(["launcher.tflops=400"], {"protocol": "fig3", "data": "prepared"})
    slurm = SlurmLauncher(nodes=2, gpus=4, tflops=400.0)
    several = estimate([one], replace(alone, launcher=slurm, parallel=DdpParallel()), IMAGENET, ())
    train_hours, score_hours = (flops / 400e12 / 3600 for flops in (several.training_flops, several.scoring_flops))
    assert several.hours == pytest.approx(train_hours + 8 * score_hours)
    assert several.longest_hours == pytest.approx(train_hours / 8 + score_hours)
    told = "\n".join(estimate_lines(several, replace(alone, launcher=slurm, parallel=DdpParallel())))
    assert "8 processes share each training" in told
    seconds = 6 * 1e10 * 1024 / 8 / 400e12
    assert several.step_seconds == pytest.approx(seconds)
    assert f"a step: {seconds:.3g} s at that rate, launcher.tflops" in told


def test_what_several_processes_reached_is_a_process_s_share(store, workplace):
    spec, under = tiny_spec(), {"device": "cpu", "processes": 2}
    macs = Counted(value=1_000_000_000, unit="multiply-adds", conditions={"latent": 8})
    taken = Measured(value=50.0, unit="s", conditions=under)
    store.put(record_of(spec, "complete", {"macs": macs, "train_seconds": taken}))
    told = throughput_of(settings_of(["recipe.device=cpu"]), store.trials())
    assert told.flops == pytest.approx(6e9 * 8 * 6 / 50 / 2)


def test_looking_at_a_training_is_no_training(store, workplace):
    counts = {
        "macs": Counted(value=1_000_000_000, unit="multiply-adds", conditions={"latent": 8}),
        "train_seconds": Measured(value=50.0, unit="s", conditions={"device": "cpu"}),
    }
    seconds = {"stage_seconds": {"train": 50.0, "watch": 10.0}}
    store.put(record_of(tiny_spec(), "complete", counts, provenance=seconds))
    assert throughput_of(settings_of(["recipe.device=cpu"]), store.trials()).flops == pytest.approx(6e9 * 8 * 6 / 40)


def test_a_training_with_a_teacher_did_more_in_its_seconds_and_is_like_those_with_it(store, workplace):
    spec, under = tiny_spec("recipe.steps=6"), {"device": "cpu", "teacher_macs": 3_000_000_000}
    macs = Counted(value=1_000_000_000, unit="multiply-adds", conditions={"latent": 8})
    taken = Measured(value=50.0, unit="s", conditions=under)
    store.put(record_of(spec, "complete", {"macs": macs, "train_seconds": taken}))
    settings = settings_of(["recipe.device=cpu", "recipe.batch_size=8"])
    plain = training_of(spec.architecture, 8, spec.settings)
    told = throughput_of(settings, store.trials(), [replace(plain, teacher_macs=3_000_000_000)])
    assert told.flops == pytest.approx((6e9 + 2 * 3e9) * 8 * 6 / 50)
    assert told.source.startswith("measured: the median of 1 training of this very network")
    assert throughput_of(settings, store.trials(), [plain]).source.startswith("scaled from other networks")


def test_a_training_that_recomputed_its_blocks_did_more_in_its_seconds(store, workplace):
    """A third more: 8 FLOP a multiply-add in place of 6."""
    for seed, more in enumerate(({}, {"gradient_checkpointing": True})):
        counts = {
            "macs": Counted(value=1_000_000_000, unit="multiply-adds", conditions={"latent": 8}),
            "train_seconds": Measured(value=50.0, unit="s", conditions={"device": "cpu", **more}),
        }
        store.put(record_of(tiny_spec(seed=seed), "complete", counts))
    told = throughput_of(settings_of(["recipe.device=cpu"]), store.trials())
    assert told.flops == pytest.approx((6 + 8) / 2 * 1e9 * 8 * 6 / 50)


def test_the_printed_command_prepares_for_the_study_s_own_autoencoder():
    """Every setting of it that is not the default: prepared otherwise, the training would refuse the folder."""
    kl = ("autoencoder=kl", "autoencoder.name=my/vae", "autoencoder.subfolder=vae", "autoencoder.encoding=mean")
    tiny = ("autoencoder=tiny", "autoencoder.encoder=a_encoder.pth", "autoencoder.decoder=a_decoder.pth")
    for words in (kl, tiny, ("protocol=fig3",), ("autoencoder=pixels",)):
        settings = settings_of(["data=prepared", *words])
        command = how_to_prepare(settings).split("`")[1].split()
        printed = [word for word in command if word.startswith("autoencoder")]
        assert settings_of(printed).autoencoder == settings.autoencoder, printed
    assert "encoding" not in how_to_prepare(settings_of(FIG3)), "which draws by default"


def test_what_is_not_counted_is_said_and_tab1_s_sweep_is_the_most_of_it(store):
    """The grid of its file, 15 points: 15 times what the trial's own score takes."""
    settings = settings_of(["protocol=tab1", "data=prepared"])
    one = Training(params=300_000_000, macs=10_000_000_000, steps=1_250_000)
    lines = estimate_lines(estimate([one], settings, IMAGENET, ()), settings)
    assert lines[-1].startswith("not counted: ")
    assert "while trainings run" not in lines[-1]
    watched = settings_of([*FIG3, "watch=full"])
    assert estimate_lines(estimate([one], watched, IMAGENET, ()), watched)[-1].endswith(
        "adds 0.001 of their passes at most"
    )
    for each in ("validation", "encoding and decoding", "reference", "evaluate KEY --guidance ... --steps ..."):
        assert each in lines[-1]
    grid = sampling_grid(settings.sampling, (1, 1.25, 1.5, 1.75, 2), (10, 25, 50))
    of_grid = sum(scoring_flops(one, replace(settings, sampling=point)) for point in grid)
    assert of_grid / scoring_flops(one, settings) == pytest.approx(15.3, rel=0.01)


def test_a_count_at_another_latent_than_the_trained_one_tells_no_throughput(store, workplace):
    counts = {
        "macs": Counted(value=10, unit="multiply-adds", conditions={"latent": 128}),
        "train_seconds": Measured(value=1.0, unit="s", conditions={"device": "cpu"}),
    }
    store.put(record_of(tiny_spec(), "complete", counts))
    assert throughput_of(settings_of(["recipe.device=cpu"]), store.trials()).flops is None


def test_hours_of_gpus_that_are_not_here_say_so(store, monkeypatch):
    one, told = Training(params=1, macs=10**9, steps=10), "this machine has no GPU"

    def lines(*words):
        settings = settings_of([*FIG3, *words])
        return "\n".join(estimate_lines(estimate([one], settings, IMAGENET, ()), settings))

    monkeypatch.setattr(estimates, "has_gpu", lambda: False)
    assert told in lines()
    assert told not in lines("launcher=slurm", "launcher.gpus=1")
    monkeypatch.setattr(estimates, "has_gpu", lambda: True)
    assert told not in lines()


def test_a_job_longer_than_slurm_s_limits_is_told(store):
    settings = settings_of([*FIG3, "launcher=slurm", "launcher.gpus=1", "launcher.timeout_min=60"])
    ten_hours = Training(params=1, macs=round(10 * 3600 * 1e14 / (6 * 1024 * 150_000)), steps=150_000)
    told = "\n".join(estimate_lines(estimate([ten_hours], settings, IMAGENET, ()), settings))
    assert "a time limit of 60 min has it go on 10 times" in told or "has it go on 9 times" in told
    shorter = replace(settings, launcher=replace(settings.launcher, max_requeues=3))
    told = "\n".join(estimate_lines(estimate([ten_hours], shorter, IMAGENET, ()), shorter))
    assert "launcher.max_requeues=3 allows fewer: raise it to" in told


def test_a_dry_run_shows_hours_disk_and_jobs(workplace, capsys):
    assert main(["ablate", "tiny", "--dry-run", "launcher.tflops=0.001"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 would run" in printed
    spec = tiny_spec()
    one = training_of(spec.architecture, 8, spec.settings)
    assert one.params > 0
    assert "hours of one processor, an estimate: " in printed
    assert "at 0.001 TFLOP/s a process (launcher.tflops)" in printed
    assert re.search(r"a step of the largest network: \d\S* s at that rate, launcher.tflops", printed)
    assert "jobs: 2 trainings, and one of controls, 1 at once" in printed
    assert "disk: " in printed


def test_without_the_data_a_dry_run_counts_imagenet_and_says_how_to_prepare_it(workplace, capsys):
    words = ["ablate", "tiny", "--dry-run", "protocol=fig3", "data=prepared"]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "data.path=null holds no prepared data, so this counts ImageNet's 1,281,167 training" in printed
    assert "`harness data prepare imagenet data.path=IMAGENET data.crop=adm to=FOLDER pictures=null" in printed
    assert "multiply-adds at 32x32x16" in printed
    assert "2 trainings of 150,000 steps, 1 a rung" in printed
    assert "GPU-hours, an estimate: " in printed
    assert not Path("runs/tiny").exists()


ELSEWHERE = ("--dry-run", "protocol=fig3", "data=prepared")


def dry_run(capsys, *words, ends=0):
    capsys.readouterr()
    assert main([*words[:2], *ELSEWHERE, *words[2:]]) == ends
    printed = capsys.readouterr()
    return " ".join((printed.err if ends else printed.out).split())


def test_without_the_data_what_a_limit_refuses_is_told_and_not_counted(workplace, capsys):
    study, settings = ablation_study("tiny", ELSEWHERE[1:])
    params = [
        training_of(fitted_to_latents(one, 16), 32, settings).params for _, one in study.architecture.architectures()
    ]
    assert len(set(params)) == 2
    everything = dry_run(capsys, "ablate", "tiny")
    assert "2 trainings of" in everything
    assert "refused" not in everything
    smaller = dry_run(capsys, "ablate", "tiny", f"limits.params={min(params)}")
    assert "1 trainings of" in smaller
    assert "jobs: 1 training," in smaller
    assert f"refused: params is {max(params):,}, above" in smaller
    none = dry_run(capsys, "ablate", "tiny", "limits.macs=1", "limits.latency_ms={at_most: 1, chip: A17 Pro}")
    assert "0 trainings of" in none
    assert "GPU-hours" not in none
    assert "limits.latency_ms is held where the study runs, and is not looked at here" in none


def test_without_the_data_a_sweep_says_of_its_base_that_a_limit_refuses_it(workplace, capsys):
    assert "the whole sweep, 4 candidates like this one" in dry_run(capsys, "sweep", "search")
    refused = dry_run(capsys, "sweep", "search", "limits.params=1000")
    assert "the space's base is refused, and tells nothing of candidates" in refused
    assert "above the limit of 1,000" in refused
    assert "candidates like this one" not in refused


@pytest.mark.parametrize("where", [("protocol=fig3", "data=prepared"), ("tracker=none", "latency=none")])
def test_a_single_training_that_a_limit_refuses_says_so(workplace, capsys, where):
    assert main(["train", "tiny_base.yaml", "--dry-run", *where, "limits.params=1000"]) == 0
    printed = capsys.readouterr().out
    assert "refused: params is " in printed
    assert "hours" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("words", [("ablate", "tiny"), ("sweep", "search"), ("train", "tiny_base.yaml")])
def test_without_the_data_what_no_machine_could_run_is_refused(workplace, capsys, words):
    """And nothing is asked of this one: Slurm need not be here."""
    assert "latent=7 does not fit the architecture" in dry_run(capsys, *words, "latent=7", ends=2)
    idle = dry_run(capsys, *words, "launcher=slurm", "launcher.gpus=1", "recipe.device=cpu", ends=2)
    assert "asks Slurm for GPUs, and recipe.device is 'cpu'" in idle
    dry_run(capsys, *words, "launcher=slurm", "launcher.gpus=1", "recipe.device=cuda")


@pytest.mark.parametrize("words", [("ablate", "tiny"), ("sweep", "search"), ("train", "tiny_base.yaml")])
def test_a_folder_that_is_named_and_holds_no_prepared_data_is_refused_and_not_priced_as_imagenet(
    workplace, capsys, words
):
    Path("begun").mkdir()
    for place in ("nowhere", "begun"):
        refused = dry_run(capsys, *words, f"data.path={place}", ends=2)
        assert f"{place} is no folder of prepared data: it has no manifest.json" in refused
        assert "or leave out data.path, and a dry run counts ImageNet's pictures" in refused


@pytest.mark.parametrize("words", [("ablate", "tiny"), ("train", "tiny_base.yaml")])
def test_without_the_data_a_file_of_scores_that_is_named_and_not_here_is_refused(workplace, capsys, words):
    refused = dry_run(capsys, *words, "quality.extractor.weights=inception.pth", ends=2)
    assert "quality.extractor.weights=inception.pth is not there; give a path that exists, or leave it out" in refused
    Path("inception.pth").touch()
    dry_run(capsys, *words, "quality.extractor.weights=inception.pth")


def test_a_training_that_only_counts_is_rehearsed_without_data(workplace, capsys):
    assert main(["train", "tiny_base.yaml", "--dry-run", "count_only=true", "latent=16", "tracker=none"]) == 0
    printed = capsys.readouterr().out
    assert "G multiply-adds at 16x16; count_only trains nothing" in printed
    assert "jobs" not in printed


@pytest.mark.slow
def test_a_single_training_can_be_rehearsed_too(workplace, capsys):
    words = ["train", "snapgen", "--dry-run", "protocol=fig3", "data=prepared", "seeds=[0,1]"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "M parameters, 36." in printed
    assert "150,000 steps" in printed
    assert "jobs: 2 trainings, 2 at once" in printed or "jobs: 2 trainings, 1 at once" in printed
    assert "make it with `harness data prepare imagenet" in printed
    assert "memory a process, an estimate by shapes: " in printed
    on_slurm = ["launcher=slurm", "launcher.nodes=2", "launcher.gpus=0", "launcher.processes=3", "parallel=ddp"]
    words = ["recipe.steps=7", "tracker=none", "latency=none", *on_slurm]
    assert main(["train", "tiny_base.yaml", "--dry-run", *words]) == 0
    printed = capsys.readouterr().out
    assert "as trained, 7 steps" in printed
    assert "DDP's buckets" in printed
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=3\n" in printed, "submitit's script, where no Slurm is"
    assert f"{Path.cwd()}/runs/train-tiny_base/attempts/KEY/" in printed
    assert not list(Path("runs").glob("train-*"))
