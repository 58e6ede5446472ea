"""The scores of a trained decoder, or autoencoder, on pictures that are named after its training: held-out ones of any
data, or COCO's. They are those that the same network has as `autoencoder=trained autoencoder.record=KEY` of
`task=decode`, beside which other decoders are trained: its trial's own, where the pictures are. Torch is loaded when
something is scored."""

from collections.abc import Sequence

from harness.records.errors import UserError
from harness.records.quantity import Quantity
from harness.trials.compose import parsed
from harness.trials.settings import Settings, settings_of
from harness.trials.task_config import ReconstructingConfig, TaskConfig, task_of
from harness.trials.trained import TrainedNetwork

ITS_OWN = ("task", "autoencoder", "autoencoder.record")
NOT_SCORED = "task.tiled"
"""Which is of a training's end alone."""
JUDGES = ("pictures", "extractor", "perceptual")
"""Settings of a task that decide scores."""


def reconstructs(trained: TrainedNetwork) -> bool:
    """Whether it was trained to make pictures again, and not to be sampled from."""
    if trained.record is not None:
        return isinstance(task_of(trained.record.protocol), ReconstructingConfig)
    from harness.models.weights import read_identity

    training = read_identity(trained.weights)[1]
    form = None if training is None else TaskConfig.forms.get(training.task)
    return form is not None and issubclass(form, ReconstructingConfig)


def scoring_settings(trained: TrainedNetwork, overrides: Sequence[str]) -> Settings:
    """With the network as what decodes, and its trial's own judges. UserError where the command line names another."""
    chosen = parsed(overrides)
    if named := next((name for name in ITS_OWN if name in chosen), None):
        raise UserError(
            f"{trained.title} is itself what decodes, and is scored as task=decode has it; leave {named} out"
        )
    if named := next((name for name in chosen if f"{name}.".startswith(f"{NOT_SCORED}.")), None):
        raise UserError(f"{named} is measured when a decoder has been trained, and not of one afterwards; leave it out")
    recorded = {} if trained.record is None else trained.record.protocol["task"]
    if (of := recorded.get("scored_on")) and not any(name.partition(".")[2].startswith("scored_on") for name in chosen):
        raise UserError(
            f"{trained.title} was scored on COCO's {of['split']}, which says where on the command line; give "
            f"'task.scored_on={{path: FOLDER, split: {of['split']}}}', or task.scored_on=null for held-out pictures"
        )
    own = {
        "task": "decode",
        "autoencoder": "trained",
        "autoencoder.record": str(trained.weights) if trained.record is None else trained.key,
        "objective.perceptual_weight": 0,
        "objective.adversarial_weight": 0,
        **{f"task.{name}": recorded[name] for name in JUDGES if name in recorded},
    }
    return settings_of(overrides, own)


def reconstruction_scores(settings: Settings) -> dict[str, Quantity]:
    from harness.training.device import resolve_device
    from harness.trials.prepared import prepare
    from harness.trials.tasks.decode import Decode

    task = prepare(settings).task
    assert isinstance(task, Decode)
    return dict(task.scored(task.own_decoder(resolve_device(settings.recipe.device))))
