"""What a trial trains and how it is scored, as trials and studies see it.

A trial counts its network, exports and times it, trains it by the loop, keeps curve, weights and record, and tells the
tracker. Its task says the rest: what the data is and how a network is fitted to it, what the loop minimises, and what
is done with the trained network: stages of the task's own, which end in scores. What of it can be told without data,
its settings tell (`harness.trials.task_config`).

An implementation is one file in `harness/trials/tasks/`.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.architecture.config import ArchitectureConfig
from harness.models.weights import Training
from harness.records.quantity import Quantity
from harness.training.batches import TrainingData
from harness.training.listeners import Watcher
from harness.training.objective import Objective
from harness.training.outcomes import Trained
from harness.training.teacher import TeacherDescription

if TYPE_CHECKING:
    from harness.trials.settings import Settings
    from harness.trials.spec import TrialSpec
    from harness.trials.watching import Hear, Keep


class Work(Protocol):
    """One attempt at a trial, as the stages of its task see it."""

    @property
    def spec(self) -> "TrialSpec": ...

    @property
    def folder(self) -> Path:
        """The attempt's. What a later attempt should find goes into `harness.launch.attempt.shared_folder` of it."""
        ...

    def phase(self, name: str, /) -> AbstractContextManager[None]:
        """Inside, the trial is at that stage: it is shown, timed, and named by a failure."""
        ...

    def artifact(self, name: str, /) -> Path:
        """Where the trial's file of that name is to be written; its record will name it."""
        ...


class Task(Protocol):
    """Made of a study's settings, with its data loaded: by its driver, and again in every worker."""

    @property
    def data(self) -> TrainingData:
        """What networks are trained on."""
        ...

    @property
    def pictures(self) -> int:
        """How many an epoch has: mirrored ones that are rows of their own are no more of them."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of what a network is called with."""
        ...

    @property
    def samples(self) -> int:
        """How many a score is computed from."""
        ...

    @property
    def teacher(self) -> TeacherDescription | None:
        """Of an objective that has one. UserError for one that cannot teach here."""
        ...

    @property
    def warning(self) -> str | None:
        """A sentence about the data, to be shown when a study begins."""
        ...

    @property
    def trained_on(self) -> Mapping[str, Any]:
        """The protocol's sections that say so: contents, not paths."""
        ...

    @property
    def scored_by(self) -> Mapping[str, Any]:
        """The protocol's sections that scores depend on, and no training: those that its settings name."""
        ...

    def under(self, settings: "Settings", /) -> "Task":
        """The same data under other settings, which do not change it."""
        ...

    def fitted(self, architecture: ArchitectureConfig, /) -> ArchitectureConfig:
        """With the channels and whatever else the data decides. It is one that the task takes, at a size that it takes.
        UserError where the data is nothing for it."""
        ...

    def objective(self, architecture: ArchitectureConfig, seed: int, /) -> Objective[Any]:
        """What the loop minimises when it trains such a network, fitted, with that seed; on the recipe's device.
        UserError if the machine has no such device."""
        ...

    def watcher(self, keep: "Keep", hear: "Hear", /) -> Watcher | None:
        """What looks at a network while it is trained, as the settings `watch` ask, and tells what earlier attempts
        saw; None where nothing can be seen."""
        ...

    def score(self, trained: Trained, work: Work, /) -> Mapping[str, Quantity]:
        """The stages after training: every quantity that its settings name (`scores`), and its artifacts. What they
        began and did not end, a later attempt goes on with. Raises NotFiniteError where the network's output is no
        numbers, and UserError."""
        ...

    def told(self, trial: str, /) -> Training:
        """What the file of weights of the trial of that key says of its training."""
        ...

    def control_identity(self, name: str, base: ArchitectureConfig, /) -> Mapping[str, Any]:
        """What a control depends on beside the protocol."""
        ...

    def control(self, name: str, base: ArchitectureConfig, /) -> Mapping[str, Quantity]:
        """The scores of one of its settings' controls; `base` is the first network of the study, fitted."""
        ...
