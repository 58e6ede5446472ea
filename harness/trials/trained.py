"""What a user names a trained network by: its trial's key or the beginning of it, the study that trained it alone, its
file of weights, the YAML that it was promoted to (which means its full training as soon as there is one, and until then
the trial that it was promoted from), the folder that it was published as, or its Core ML package; and the record of its
trial.

Torch is loaded for a file of weights or a package alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.measure.quality_config import QualityConfig
from harness.models.extractor_config import EfficientNetLite0Extractor, InceptionV3Extractor
from harness.records.errors import UserError
from harness.records.manifest import STUDY_FILES, TRAINING, Manifest, read_manifest
from harness.records.plain import to_plain
from harness.records.record import TrialRecord, key_that_begins, why
from harness.records.store import Store
from harness.trials.compose import compose_plain, parsed
from harness.trials.progress import Show
from harness.trials.settings import Settings, settings_of
from harness.trials.spec import store_of
from harness.trials.task_config import task_of

OTHERS = "a folder or a file of images or statistics"
"""What else can be scored, for the sentence about a name that is nothing."""
QUALITY = "quality"
FILES = (".safetensors", ".yaml", ".yml")
"""How the names of a network's files end."""
PACKAGE, TRIAL, BITS = ".mlpackage", "harness.trial", "harness.bits"
"""How the name of a Core ML package ends, and what its metadata call the trial whose network it is, and the bits of its
weights."""
WEIGHTS = "ema.safetensors"
PUBLISHED = "model.safetensors"
"""The same in a folder that `harness publish` wrote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedNetwork:
    weights: Path
    """Its file: safetensors that say what they are of."""
    key: str
    """Of its trial; of weights that others trained, what stands for it."""
    record: TrialRecord | None
    """Of its trial; None for a file of weights whose trial is in no store here, or that are of none."""
    by_others: bool = False
    """Whether `harness convert` brought it in."""
    package: Path | None = None
    """The Core ML package of it that runs in its place, by `harness.coreml.interpreter`."""

    @property
    def title(self) -> str:
        """What tables and pictures call it."""
        if self.package is not None:
            return self.package.name
        return self.weights.name if self.by_others else f"Trial {self.key}"


def names_network(what: str) -> bool:
    """Whether it can name a network: it ends like a network's file, or there is no file and no folder of that name."""
    return what.rstrip("/").endswith((*FILES, PACKAGE)) or not Path(what).exists()


def trained_network(what: str, out: Path, others: str = "") -> TrainedNetwork:
    """The network that `what` names; trials are looked for in the store under `out`, and in the one that a file of
    weights lies in. UserError where there is none, or more than one; `others` are what it could have been beside."""
    store = store_of(out)
    record = _of_study(what, out, store)
    if record is None and what.endswith((".yaml", ".yml")):
        record = _full_training(Path(what), out, store)
    if record is not None:
        return _of_record(record, store)
    return input_network(what, out, f"a study that trained one{others and f', nor {others}'}")


def input_network(what: str, out: Path, others: str = "") -> TrainedNetwork:
    """The same of what a training is given: by no study's name, since the training may be of that study, and what the
    name stands for changes while it runs; and a promoted YAML is the trial that it was promoted from, trained on since
    or not."""
    if (Path(what) / PUBLISHED).is_file():
        return _of_weights(Path(what) / PUBLISHED, out)
    if what.endswith(".safetensors"):
        return _of_weights(Path(what), out)
    store = store_of(out)
    if what.rstrip("/").endswith(PACKAGE):
        return _of_package(Path(what), store)
    if what.endswith((".yaml", ".yml")):
        return _of_record(_promoted(Path(what), store), store)
    return _of_record(trial_of(what, store, others), store)


def weights_of(what: str, out: Path) -> Path:
    """The file of weights of the network that `what` names: of one to begin with, or to learn from. Errors: as
    `input_network`."""
    return input_network(what, out, "the folder that it was published as").weights


def network_and_settings(
    what: str, overrides: Sequence[str], others: str = "", *, scored: bool = False
) -> tuple[TrainedNetwork, Settings]:
    """The network that is meant, and the settings of a command about its samples: its trial's sampling, and with
    `scored` its scoring too, changed by the command line. Errors: as `trained_network` and `settings_of`."""
    trained = network_of(what, overrides, others)
    return trained, settings_about(trained, overrides, scored=scored)


def network_of(what: str, overrides: Sequence[str], others: str = "") -> TrainedNetwork:
    """As `trained_network`, under the `out` of a command line."""
    return trained_network(what, Path(str(compose_plain(overrides)["out"])), others)


def settings_about(trained: TrainedNetwork, overrides: Sequence[str], *, scored: bool = False) -> Settings:
    """The second of `network_and_settings`, of a network that is known."""
    defaults = sampling_of(trained)
    if scored and QUALITY not in parsed(overrides):
        defaults |= quality_of(trained)
    return settings_of(overrides, defaults)


def sampling_of(trained: TrainedNetwork) -> dict[str, Any]:
    """Defaults for `settings_of`: the sampling that the trial was scored with, setting by setting; empty without its
    record. UserError for a trial whose task samples nothing."""
    if trained.record is None:
        return {}
    if "sampling" not in trained.record.protocol:
        name = task_of(trained.record.protocol).name
        raise UserError(
            f"{trained.title} is of task={name}, and no pictures are sampled from its network; name another"
        )
    return {f"sampling.{name}": value for name, value in trained.record.protocol["sampling"].items()}


def quality_of(trained: TrainedNetwork) -> dict[str, Any]:
    """The same of scoring. Not the paths of a reference and of an extractor's weights, which records do not hold:
    where they are needed and not given, that is refused."""
    recorded = None if trained.record is None else trained.record.protocol.get(QUALITY)
    if recorded is None:
        return {}
    settings = (each for each in fields(QualityConfig) if each.name not in ("extractor", "reference_path"))
    defaults = {each.name: to_plain(each.default) for each in settings}
    extractor = {name: recorded["extractor"][name] for name in ("kind", "resolution")}
    small = extractor["kind"] == EfficientNetLite0Extractor().kind
    if extractor["kind"] == InceptionV3Extractor().kind:
        del extractor["resolution"]  # which is no setting of it
    return {
        QUALITY: "laptop" if small else "fid",  # for the form of the extractor's settings alone
        **{f"{QUALITY}.{name}": recorded.get(name, default) for name, default in defaults.items()},
        **{f"{QUALITY}.extractor.{name}": value for name, value in extractor.items()},
    }


def trial_of(key: str, store: Store, others: str = "") -> TrialRecord:
    """The record of the trial whose key is this, or begins so, with at least four digits."""
    whole = key_that_begins(key, dict.fromkeys(store.keys(TrialRecord), ""))
    record = None if whole is None else store.trial(whole)
    if record is None:
        raise UserError(
            f"'{key}' is neither the key of a trial in {store.root}, or its first digits, nor a file of weights "
            f"(.safetensors) or a promoted architecture (.yaml){others and f', nor {others}'}"
            "; the files in the store's folder trials/ are named by their keys, and out=FOLDER says where it lies"
        )
    return record


MOST_NAMED = 12
"""Networks of a study that a sentence lists."""


def _of_study(name: str, out: Path, store: Store) -> TrialRecord | None:
    """The record of the only network that the study of that name trained in `out`; None where there is no such study.
    UserError where it has none yet, or several."""
    if Path(name).name != name:
        return None
    if (out / name / STUDY_FILES["sweep"]).is_file():
        raise UserError(
            f"{name} is a sweep of many networks; name one by its trial's key, or choose one: `harness promote {name} "
            "--rule best --to FILE.yaml`, and give that file"
        )
    if not (out / name / STUDY_FILES["ablation"]).is_file():
        return None
    manifest = read_manifest(out, name)
    record = _only_trained(manifest, store)
    if record is None:
        raise UserError(f"no network of the study {name} is trained in {out} yet; `{manifest.command}` does it")
    return record


def _only_trained(manifest: Manifest, store: Store) -> TrialRecord | None:
    """The record of the only network that the study has trained; None before. UserError where there are several."""
    keys = [(rung, seed, manifest.key(rung, seed)) for rung in manifest.rungs for seed in manifest.seeds]
    records = [(rung.name, seed, store.trial(key)) for rung, seed, key in keys]
    trained = [(rung, seed, each) for rung, seed, each in records if each is not None and WEIGHTS in each.artifacts]
    if len(trained) > 1:
        listed = [f"{each.key} ({rung}, seed {seed})" for rung, seed, each in trained[:MOST_NAMED]]
        more = f", and {len(trained) - MOST_NAMED} more" if len(trained) > MOST_NAMED else ""
        raise UserError(
            f"the study {manifest.name} trained {len(trained)} networks; name one: {', '.join(listed)}{more}"
        )
    return trained[0][-1] if trained else None


def _of_record(record: TrialRecord, store: Store) -> TrainedNetwork:
    if WEIGHTS not in record.artifacts:
        reason = f" ({why(record)})" if record.state != "complete" else ", and counted only"
        raise UserError(f"trial {record.key} ({record.name}) is {record.state}{reason}: it left no weights to use")
    return TrainedNetwork(weights=store.artifact(record.key, WEIGHTS), key=record.key, record=record)


def _of_weights(path: Path, out: Path) -> TrainedNetwork:
    from harness.models.weights import read_identity

    training = read_identity(path)[1]
    if training is None:
        raise UserError(
            f"{path} does not say how its weights were trained, which classes and which text encoder it knows; give a "
            "trial's key, or a file that a trial wrote"
        )
    places = path.resolve().parents
    around = [Store(places[2])] if len(places) > 2 and places[1].name == "artifacts" else []
    records = (store.trial(training.trial) for store in (*around, store_of(out)))
    record = next(filter(None, records), None)
    return TrainedNetwork(weights=path, key=training.trial, record=record, by_others=training.source is not None)


def _of_package(path: Path, store: Store) -> TrainedNetwork:
    """The trial whose network was exported: its prompts and its sampling are the package's."""
    from harness.coreml.export import metadata_of

    if not path.is_dir():
        raise UserError(f"there is no Core ML package {path}")
    key = metadata_of(path).get(TRIAL)
    if key is None:
        raise UserError(
            f"{path} does not say which trial's network it is; export it anew from the trial's weights: "
            f"harness export {store.root}/artifacts/KEY/{WEIGHTS} --to {path}"
        )
    record = store.trial(key)
    if record is None:
        raise UserError(f"{path} is of trial {key}, which is not in {store.root}; say where it lies with out=FOLDER")
    return replace(_of_record(record, store), package=path)


def _promoted(path: Path, store: Store) -> TrialRecord:
    """The record of the trial that the file was promoted from, unless the file was edited since."""
    from harness.architecture.catalogue import architecture
    from harness.trials.promoted import promoted_in

    config, origin = architecture(str(path)), promoted_in(path).origin
    if origin is None or not origin.trial or origin.fingerprint != config.fingerprint:
        reason = (
            "was edited since its promotion"
            if origin and origin.trial
            else "names no trial, as `harness promote` writes it"
        )
        raise UserError(
            f"{path} {reason}, so there are no weights of it; train it with `harness train {path}`, and give the file "
            "that it prints"
        )
    record = store.trial(origin.trial)
    if record is None:
        raise UserError(
            f"{path} was promoted from trial {origin.trial}, which is not in {store.root}; say where it lies with "
            "out=FOLDER"
        )
    return record


def _full_training(path: Path, out: Path, store: Store) -> TrialRecord | None:
    """The record of what `harness train FILE` made of a promoted file, which a line names; None where it left no
    weights yet. UserError where it trained several seeds."""
    from harness.trials.promoted import promoted_in

    name, origin = f"{TRAINING}{path.stem}", promoted_in(path).origin
    if origin is None or not (out / name / STUDY_FILES["ablation"]).is_file():
        return None
    manifest = read_manifest(out, name)
    is_of_file = manifest.promotion is not None and origin.trial in manifest.promotion.trials
    if not is_of_file or manifest.rungs[0].architecture_fingerprint != origin.fingerprint:
        return None
    record = _only_trained(manifest, store)
    if record is not None:
        Show().note(f"{path} is its full training here, trial {record.key}; trial {origin.trial} is the one before")
    return record
