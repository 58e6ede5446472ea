"""What a study asks of this machine, of Slurm and of its networks: looked at before anything is timed or trained.

One list, which every verb that trains goes through first, and so does its `--dry-run`. It needs no data. What only a
worker's machine must have (the GPU of a Slurm job) is not asked of this one.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from harness.architecture.config import ArchitectureConfig
from harness.data.config import PreparedConfig
from harness.launch.config import LocalLauncher, SlurmLauncher, processes_here, processes_of, who_shares
from harness.models.autoencoder_config import PixelsAutoencoder
from harness.records.errors import UserError
from harness.records.manifest import SCORING, STUDY_FILES, TRAINING, StudyKind, study_folder
from harness.tracking.config import check_tracker
from harness.training.recipe import check_recordable
from harness.trials.settings import Settings
from harness.trials.task_config import check_takes

SLURM_COMMANDS = ("sbatch", "srun")


def check_study(
    settings: Settings,
    architectures: Iterable[ArchitectureConfig],
    *,
    name: str | None = None,
    kind: StudyKind = "ablation",
    dry_run: bool = False,
) -> None:
    """UserError for the first thing that cannot be had. `architectures` are those that are known before it begins,
    `name` and `kind` are those of an ablation or a sweep. A `dry_run` asks for no Slurm, and for nothing of this
    machine where the study names no data: it would run where those are. What it names has to be here."""
    if dry_run and settings.lacks_data:
        _check_elsewhere(settings, architectures, name, kind)
        return
    if dry_run and isinstance(settings.data, PreparedConfig) and not settings.count_only:
        from harness.trials.study_data import check_here  # loads torch

        check_here(settings.data)
    check_out(settings)
    if name is not None:
        check_name(settings, name, kind)
    if dry_run:
        check_gpus(settings)
    else:
        check_launcher(settings)
    for check in (check_device, check_backends):
        check(settings)
    check_tracker(settings.tracker)
    for architecture in architectures:
        check_task(settings, architecture)
        check_sizes(settings, architecture)


def check_task(settings: Settings, architecture: ArchitectureConfig) -> None:
    """The task trains such networks, where anything is trained."""
    if not settings.count_only:
        check_takes(settings.task, architecture)


def _check_elsewhere(
    settings: Settings, architectures: Iterable[ArchitectureConfig], name: str | None, kind: StudyKind
) -> None:
    """The same of a study whose data is on another machine: what holds on any, nothing of this one; its pictures are
    ImageNet's."""
    from harness.trials.study_data import latent_of, pictures_of  # loads torch

    if name is not None:
        check_name(settings, name, kind)
    check_gpus(settings)
    _check_files(settings)
    pictures = pictures_of(settings)
    _, latent = latent_of(settings, pictures)
    for architecture in architectures:
        check_task(settings, architecture)
        check_network_sizes(settings, architecture, (pictures.size, pictures.size // latent))


def _check_files(settings: Settings) -> None:
    """The files of scores that are named are here, as a folder of data has to be; null stands for those elsewhere."""
    files = {
        "quality.extractor.weights": getattr(settings.quality.extractor, "weights", None),
        "quality.reference_path": settings.quality.reference_path,
    }
    for name, path in files.items():
        if path is not None and not path.exists():
            raise UserError(f"{name}={path} is not there; give a path that exists, or leave it out of a dry run")


def check_name(settings: Settings, name: str, kind: StudyKind) -> None:
    """The study's folder is its own, also where a file system does not tell TINY from tiny."""
    folder = study_folder(settings.out, name)
    others = folder.parent.glob("*/") if folder.parent.is_dir() else ()
    if same := [each.name for each in others if each.name != name and each.name.casefold() == name.casefold()]:
        raise UserError(
            f"{folder.parent / same[0]} is another study's, and '{name}' differs from it in case only, "
            "which is one folder on many file systems; rename the YAML file"
        )
    for other, file in STUDY_FILES.items():
        if other != kind and (folder / file).exists():
            article = "an" if other == "ablation" else "a"
            raise UserError(
                f"{folder} has {article} {other} of the name '{name}', and a folder has one study; rename the YAML "
                f"file of this {kind}, or give another out=FOLDER"
            )
    _check_pattern(settings, folder)
    for prefix, whose in {
        TRAINING: f"`harness train {name.removeprefix(TRAINING)}` calls its folder",
        SCORING: "`harness evaluate` calls the folders of its jobs",
    }.items():
        if name.casefold().startswith(prefix):
            raise UserError(f"a study cannot be called '{name}', as {whose}; rename its YAML file")


def check_out(settings: Settings) -> None:
    """What a study writes can be written: `out` is a folder, or can become one."""
    out = Path(settings.out).absolute()
    nearest = next(folder for folder in (out, *out.parents) if os.path.lexists(folder))  # False where one may not look
    if not os.path.isdir(nearest):  # noqa: PTH112 - `is_dir` raises where a link leads to such a place
        raise UserError(f"out={settings.out} is to be a folder, and {nearest} is none; give another out=FOLDER")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"out={settings.out} cannot be written: {nearest} does not let you; give another out=FOLDER")
    _check_pattern(settings, out)


def _check_pattern(settings: Settings, path: Path) -> None:
    """Slurm writes a job's output to a path in which %j is the job's number."""
    if isinstance(settings.launcher, SlurmLauncher) and "%" in str(path.absolute()):
        raise UserError(
            f"Slurm takes the % in {path.absolute()} for a pattern, since jobs write their output there; give another "
            "out=FOLDER, or rename the study's YAML file"
        )


def check_launcher(settings: Settings) -> None:
    """Slurm is here, and no job is given a GPU that its training leaves idle."""
    on_slurm = isinstance(settings.launcher, SlurmLauncher)
    if on_slurm and (missing := [command for command in SLURM_COMMANDS if shutil.which(command) is None]):
        raise UserError(
            f"launcher 'slurm' needs Slurm's srun and sbatch on this machine, and {' and '.join(missing)} cannot be "
            "found; use launcher=local here"
        )
    check_gpus(settings)


def check_gpus(settings: Settings) -> None:
    """GPUs are given to trainings that use them."""
    launcher, device = settings.launcher, settings.recipe.device
    if isinstance(launcher, LocalLauncher) and launcher.cuda_devices is not None and device not in ("auto", "cuda"):
        raise UserError(
            f"launcher.cuda_devices deals out GPUs, and recipe.device is '{device}', which uses none; leave out one"
        )
    if not isinstance(launcher, SlurmLauncher):
        return
    if launcher.gpus and device in ("cpu", "mps") and not settings.count_only:
        raise UserError(
            f"launcher.gpus={launcher.gpus} asks Slurm for GPUs, and recipe.device is '{device}', which leaves them "
            "idle; set launcher.gpus=0 or recipe.device=cuda"
        )


def check_device(settings: Settings) -> None:
    """This machine has the device, where trainings run on it, and what several processes or a recorded step need."""
    launcher, device, processes = settings.launcher, settings.recipe.device, processes_of(settings.launcher)
    numbers = launcher.cuda_devices if isinstance(launcher, LocalLauncher) else None
    elsewhere = isinstance(launcher, SlurmLauncher) or settings.count_only
    recorded = settings.recipe.cuda_graph
    if elsewhere or (device in ("auto", "cpu") and numbers is None and processes == 1 and not recorded):
        return
    from harness.training.device import check_cuda_numbers, check_one_each, resolve_device  # loads torch
    from harness.training.parallel import backend_of

    resolved = resolve_device(device)
    check_cuda_numbers(numbers or ())
    check_recordable(settings.recipe, resolved.type, processes)
    if processes > 1:
        backend_of(resolved)
        if resolved.type == "cuda":
            check_one_each(processes_here(launcher), numbers, who_shares(launcher))


def check_backends(settings: Settings) -> None:
    """This machine has what takes the latencies."""
    if not settings.count_only:
        for backend in settings.latency.backends:
            backend.check()


def check_sizes(settings: Settings, architecture: ArchitectureConfig) -> None:
    """Refuse an image's or a latent's size that the network cannot take; known without the images."""
    check_network_sizes(settings, architecture, training_sizes(settings))


def check_network_sizes(settings: Settings, architecture: ArchitectureConfig, training: tuple[int, int] | None) -> None:
    """The same of sizes that are known: `training` is the picture's, and how many times smaller the latent is that a
    network is trained on; None where it is not trained, or they are not known here."""
    if training is not None:
        size, downsampling = training
        _check_size(architecture, "data.size", size, downsampling=downsampling)
    _check_latents(settings, architecture)


def training_sizes(settings: Settings) -> tuple[int, int] | None:
    """The picture's size, and the autoencoder's downsampling; None where nothing is trained. UserError where prepared
    data or the autoencoder is not here, or the picture's size is none that it takes."""
    return None if settings.count_only else (settings.data.size, _downsampling(settings))


def _check_latents(settings: Settings, architecture: ArchitectureConfig) -> None:
    latents = {
        "latent": settings.latent,
        "latency.latent": settings.latency.latent,
        "coreml.latent": getattr(settings.coreml, "latent", None),
    }
    for name, size in latents.items():
        if size is not None:
            _check_size(architecture, name, size)


def _check_size(architecture: ArchitectureConfig, name: str, size: int, *, downsampling: int = 1) -> None:
    """`size` is of a latent, or of a picture whose latent is so many times smaller."""
    latent = size // downsampling
    if not (reason := architecture.why_not_latent(latent)):
        return
    fits = sorted(range(1, max(2 * latent, architecture.latent_multiple) + 1), key=lambda other: abs(other - latent))
    near = next((other for other in fits if not architecture.why_not_latent(other)), architecture.native_latent)
    advice = f"give {name}={near * downsampling}" if near is not None else "name another architecture"
    through = f", a latent of {latent}," if downsampling > 1 else ""
    raise UserError(f"{name}={size}{through} does not fit the architecture: {reason}; {advice}")


def _downsampling(settings: Settings) -> int:
    """Of the autoencoder between pictures and network. UserError where the picture's size is none that it takes."""
    if isinstance(settings.autoencoder, PixelsAutoencoder):
        return 1
    from harness.models.autoencoder import describe  # loads torch

    autoencoder = describe(settings.autoencoder)
    autoencoder.latent_shape(3, settings.data.size)
    return autoencoder.downsampling
