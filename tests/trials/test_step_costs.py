"""What a training step is said to take, against what PyTorch's own counter finds in it."""

from pathlib import Path

import pytest
import torch
from tiny_decoding import SQUARED_ERROR_ALONE, decoding_spec, lay_out, made_by, pictures
from tiny_study import share_cache, tiny_spec
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.cli import main
from harness.models.parameters import filled_copy
from harness.models.weights import Training, write_weights
from harness.training.batches import training_rows
from harness.training.device import autocast
from harness.training.parallel import current_world
from harness.training.parallel_config import DdpParallel
from harness.training.randomness import HostDraws
from harness.training.update import Update, standing_still
from harness.trials.estimates import training_of
from harness.trials.heads import heads_of
from harness.trials.judges import judges_of
from harness.trials.memory import memory_of
from harness.trials.prepared import prepare
from harness.trials.samples import initialised_network

"""A discriminator's settings, where there is none."""
COMMON = ("text=class_table",)
"""Its prompts are small, and so is what takes no gradient back to them."""
TAUGHT = ("objective.teacher.name={teacher}",)
STEPPED = ("objective=step_distillation", *TAUGHT, "initial=none")
WAYS = {
    "flow_matching": (),
    "distillation": ("objective=distillation", *TAUGHT),
    "four steps": STEPPED,
    "eight steps": (*STEPPED, "objective.steps=8", "recipe.gradient_checkpointing=true"),
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, cache):
    """The file of weights of a network, as if trained."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        share_cache(Path("runs"), cache)
        spec = tiny_spec(*COMMON)
        training = Training(trial=spec.key, latent=8, text=prepare(spec.settings).task.prompts.identity)
        write_weights(
            folder / "teacher.safetensors",
            filled_copy(initialised_network(spec.architecture, 0)).state_dict(),
            spec.architecture,
            training,
        )
        yield folder / "teacher.safetensors"


@pytest.mark.parametrize("way", WAYS)
def test_a_step_takes_the_operations_that_it_is_reckoned_with(teacher, way):
    """Of a student and a teacher of one size, so that each pass counts."""
    own = tiny_spec(*COMMON, *(each.format(teacher=teacher) for each in WAYS[way]))
    recipe, prepared = own.settings.recipe, prepare(own.settings)
    task = prepared.task
    network = initialised_network(own.architecture, 0, checkpointing=recipe.gradient_checkpointing)
    objective = task.objective(own.architecture, 0)
    update = Update(network, objective, recipe, torch.device("cpu"), torch.float32, DdpParallel(), current_world())
    rows, labels = next(training_rows(task.data, recipe, 0, 1, range(8)))
    batch = objective.batch(rows, labels, HostDraws(0, 1, range(8), 8))
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        update(1, batch)
    reckoned = training_of(own.architecture, 8, own.settings, task.teacher).step_flops(recipe)
    again = recipe.gradient_checkpointing  # of blocks alone
    assert counter.get_total_flops() == pytest.approx(reckoned, rel=0.09 if again else 0.03)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_step_keeps_is_as_much_as_is_said(teacher, precision):
    """Of the student, twice, of the teacher that a gradient goes through, and of the heads: all but what the losses
    square. Of the heads' own loss, with nothing else, as much as is said of that."""
    own = tiny_spec(*COMMON, *(each.format(teacher=teacher) for each in STEPPED), f"recipe.precision={precision}")
    task, dtype = prepare(own.settings).task, getattr(torch, precision)
    objective, network = task.objective(own.architecture, 0), initialised_network(own.architecture, 0)
    rows, labels = next(training_rows(task.data, own.settings.recipe, 0, 1, range(8)))
    batch = objective.batch(rows, labels, HostDraws(0, 1, range(8), 8))
    modules = (network, objective.discriminator, objective.teacher.network)

    def kept(loss, frozen):
        sizes, alive = {each.untyped_storage()._cdata: 0 for part in modules for each in part.parameters()}, []

        def pack(tensor):
            alive.append(tensor)
            sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
            return tensor

        keeping = torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each)
        with keeping, autocast(torch.device("cpu"), dtype), standing_still(frozen):
            alive.append(loss(network, batch).total)
        return sum(sizes.values())

    parts = memory_of(own.architecture, 8, own.settings, (), task.teacher).parts
    heads = heads_of(own.settings.objective, task.teacher)
    assert heads.params == sum(each.numel() for each in objective.discriminator.parameters())
    said = parts["activations"] + parts["through the teacher"] + parts["discriminator's heads"] - 16 * heads.params
    assert kept(objective.loss, objective.discriminator) == pytest.approx(said, rel=0.03)
    theirs = heads.kept(own.settings.objective.passes.heads * 8, precision, trained=True)
    assert kept(objective.judgement, network) == pytest.approx(theirs, rel=0.03)


DECODING_WAYS = {
    "all three, encoded": ((), True, True),
    "prepared": (("data=prepared", "data.path={place}/prepared"), True, True),
    "squared error alone": ((), False, False),
    "perceptual alone": ((), True, False),
}


def of_32_px(folder):
    """Which ST-LPIPS takes."""
    return ["data.size=32" if each.startswith("data.size=") else each for each in pictures(folder)]


@pytest.fixture(scope="module")
def decoding(tmp_path_factory):
    folder = lay_out(tmp_path_factory.mktemp("decoding"))
    words = ["data", "prepare", *(each.removeprefix("data=") for each in of_32_px(folder))]
    assert main([*words, *made_by(folder), f"to={folder}/prepared", f"out={folder}/runs", "scale_pictures=16"]) == 0
    return folder


@pytest.mark.parametrize("way", DECODING_WAYS)
def test_a_decoders_step_takes_and_keeps_what_it_is_reckoned_with(decoding, way):
    """Of a small decoder, so that what encodes and judges is nearly all of it."""
    data, is_perceptual, is_adversarial = DECODING_WAYS[way]
    here = [each.format(place=decoding) for each in data] or of_32_px(decoding)
    chosen = [] if is_adversarial else SQUARED_ERROR_ALONE
    own = decoding_spec(decoding, *here, f"out={decoding}/runs", f"objective.perceptual_weight={int(is_perceptual)}",
                        *chosen)  # fmt: skip
    prepared = prepare(own.settings)
    task, recipe, network = prepared.task, own.settings.recipe, initialised_network(own.architecture, 0)
    objective = task.objective(own.architecture, 0)
    update = Update(network, objective, recipe, torch.device("cpu"), torch.float32, DdpParallel(), current_world())
    count = recipe.batch_size
    rows, labels = next(training_rows(task.data, recipe, 0, 1, range(count)))
    counter, draws = FlopCounterMode(display=False), HostDraws(0, 1, range(count), count)
    with counter:
        batch = objective.batch(rows, labels, draws)
        update(1, batch)
    training = training_of(own.architecture, task.shape[-1], own.settings)
    assert counter.get_total_flops() == pytest.approx(training.step_flops(recipe), rel=0.03)
    judges = judges_of(own.architecture, task.shape[-1], own.settings)
    parts = {"encoder": not data, "VGG16": is_perceptual, "PatchGAN": is_adversarial}
    assert set(judges.macs_by_part) == {name for name, is_there in parts.items() if is_there}
    assert training.heads_params == sum(
        each.numel() for one in objective.auxiliaries for each in one.module.parameters()
    )
    memory = memory_of(own.architecture, task.shape[-1], own.settings).parts
    assert ("encoder and judges" in memory) == (is_perceptual or is_adversarial or not data)
    assert ("discriminator" in memory) == is_adversarial


def test_what_a_decoders_judges_keep_is_as_much_as_is_said(decoding):
    own = decoding_spec(decoding, *of_32_px(decoding), f"out={decoding}/runs",
                        "objective.perceptual_weight=1", "objective.adaptive_weight=false")  # fmt: skip
    task = prepare(own.settings).task
    objective, network = task.objective(own.architecture, 0), initialised_network(own.architecture, 0)
    count = own.settings.recipe.batch_size
    rows, labels = next(training_rows(task.data, own.settings.recipe, 0, 1, range(count)))
    batch = objective.batch(rows, labels, HostDraws(0, 1, range(count), count))
    modules = (network, objective.discriminator, objective.perceptual)
    judges = judges_of(own.architecture, task.shape[-1], own.settings)
    parts = memory_of(own.architecture, task.shape[-1], own.settings).parts
    in_network_s = _kept(modules, lambda: objective.loss(network, batch), objective.discriminator)
    said = parts["activations"] + judges.kept_in_network_s(count, "float32")
    assert in_network_s == pytest.approx(said, rel=0.05)
    in_its_own = _kept(modules, lambda: objective.judgement(network, batch), network)
    assert in_its_own == pytest.approx(judges.kept_in_their_own(count, "float32"), rel=0.05)


def _kept(modules, losses, frozen):
    sizes, alive = {each.untyped_storage()._cdata: 0 for part in modules for each in part.parameters()}, []

    def pack(tensor):
        alive.append(tensor)
        sizes.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each), standing_still(frozen):
        alive.append(losses().total)
    return sum(sizes.values())
