"""What a study asks of this machine, of Slurm and of its networks: looked at before anything is timed or trained.

One list, which every verb that trains goes through first, and so does its `--dry-run`. It needs no data. What only a
worker's machine must have (the GPU of a Slurm job) is not asked of this one.
"""

import shutil
from collections.abc import Iterable

from harness.architecture.config import ArchitectureConfig
from harness.launch.config import LocalLauncher, SlurmLauncher
from harness.records.errors import UserError
from harness.records.manifest import study_folder
from harness.tracking.config import check_tracker
from harness.trials.settings import Settings

SLURM_COMMANDS = ("sbatch", "srun")
TRAINING = "train-"
"""How the folder of a single training begins: OUT/train-NAME."""


def check_study(settings: Settings, architectures: Iterable[ArchitectureConfig], *, name: str | None = None) -> None:
    """UserError for the first thing that cannot be had. `architectures` are those that are known before it begins,
    `name` is that of an ablation or a sweep."""
    if name is not None:
        check_name(settings, name)
    for check in (check_launcher, check_device, check_backends):
        check(settings)
    check_tracker(settings.tracker)
    for architecture in architectures:
        check_sizes(settings, architecture)


def check_name(settings: Settings, name: str) -> None:
    """The study's folder is its own."""
    study_folder(settings.out, name)
    if name.startswith(TRAINING):
        trained = name.removeprefix(TRAINING)
        raise UserError(
            f"a study cannot be called '{name}', as `harness train {trained}` calls its folder; rename its YAML file"
        )


def check_launcher(settings: Settings) -> None:
    """Slurm is here, and no job is given a GPU that its training leaves idle."""
    launcher, device = settings.launcher, settings.recipe.device
    if isinstance(launcher, LocalLauncher) and launcher.cuda_devices is not None and device not in ("auto", "cuda"):
        raise UserError(
            f"launcher.cuda_devices deals out GPUs, and recipe.device is '{device}', which uses none; leave out one"
        )
    if not isinstance(launcher, SlurmLauncher):
        return
    if missing := [command for command in SLURM_COMMANDS if shutil.which(command) is None]:
        raise UserError(
            f"launcher 'slurm' needs Slurm's srun and sbatch on this machine, and {' and '.join(missing)} cannot be "
            "found; use launcher=local here"
        )
    if launcher.gpus and device in ("cpu", "mps") and not settings.count_only:
        raise UserError(
            f"launcher.gpus={launcher.gpus} asks Slurm for a GPU, and recipe.device is '{device}', which leaves it "
            "idle; set launcher.gpus=0 or recipe.device=cuda"
        )


def check_device(settings: Settings) -> None:
    """This machine has the device, where trainings run on it."""
    launcher, device = settings.launcher, settings.recipe.device
    numbers = launcher.cuda_devices if isinstance(launcher, LocalLauncher) else None
    elsewhere = isinstance(launcher, SlurmLauncher) or settings.count_only
    if elsewhere or (device in ("auto", "cpu") and numbers is None):
        return
    from harness.training.device import check_cuda_numbers, resolve_device  # loads torch

    resolve_device(device)
    check_cuda_numbers(numbers or ())


def check_backends(settings: Settings) -> None:
    """This machine has what takes the latencies."""
    if not settings.count_only:
        for backend in settings.latency.backends:
            backend.check()


def check_sizes(settings: Settings, architecture: ArchitectureConfig) -> None:
    """Refuse an image's or a latent's size that the network cannot take; known without the data."""
    latents = {
        "latent": settings.latent,
        "latency.latent": settings.latency.latent,
        "coreml.latent": getattr(settings.coreml, "latent", None),
    }
    sizes = {} if settings.count_only else {"data.size": settings.data.size}
    sizes |= {name: size for name, size in latents.items() if size is not None}
    for name, size in sizes.items():
        if reason := architecture.why_not_latent(size):
            fits = sorted(range(1, 2 * size + 1), key=lambda other: abs(other - size))
            near = next((other for other in fits if not architecture.why_not_latent(other)), architecture.native_latent)
            raise UserError(f"{name}={size} does not fit the architecture: {reason}; give {name}={near}")
