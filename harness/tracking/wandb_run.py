"""The tracker `wandb`. Quiet, inside the output folder, and bounded in time at both ends.

One run a training, whatever the number of attempts: its id is the trial's key, and its axis is `step`, the training's
own. A row has all that belongs to one step, and rows come in the order of steps.

    online    W&B continues the run (resume="allow"); rows of steps that it has are not sent again
    offline   each attempt writes a folder of its own, which begins with the rows of the attempts before, and is no
              resumed run for W&B: its rows replace those that `wandb sync` uploaded of the run before (issues 3841 and
              5865 of github.com/wandb/wandb), folders of one id in the order of their starts. Of a resumed run they
              would be appended, all of them, at other places of W&B's own axis. So uploading may come at any time,
              between two attempts too. An attempt that ends takes the folders before its own away.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from harness.records.errors import first_line
from harness.records.quantities import more_is_better
from harness.records.quantity import Counted, Failed, Measured, Predicted, Quantity, Unavailable, value_of
from harness.records.record import CurvePoint
from harness.records.removal import remove
from harness.tracking.config import WandbTracker
from harness.tracking.tracker import Run, Sent, warn

if TYPE_CHECKING:
    import wandb


Files: TypeAlias = Literal["reference", "upload", "none"]
STEP = "step"
"""The axis of all curves."""
LONGEST_TAG = 64  # characters, W&B's limit
SAMPLES, GOALS = "sample_table", "goals"
"""The table of a run's final pictures; and in its configuration, for each quantity of its summary, `minimize` or
`maximize`: W&B 0.31's `define_metric` takes no goal any more."""


def weights_artifact(run_id: str) -> str:
    """The name of the artifact that has the run's weights."""
    return f"weights-{run_id}"


class WandbRun:
    def __init__(self, run: "wandb.Run", finish_timeout_s: float, files: Files = "none") -> None:
        self._run, self._finish_timeout_s, self._files = run, finish_timeout_s, files
        self._has_points = False
        self._sent, self._first = Sent(), run.starting_step  # 0, unless online W&B has rows already
        self._defined: set[str] = set()
        run.define_metric(STEP, hidden=True)

    def configure(self, values: Mapping[str, Any]) -> None:
        self._run.config.update(dict(values), allow_val_change=True)  # type: ignore[no-untyped-call]

    def log(self, point: CurvePoint) -> None:
        self._log_row(point.step, {point.name: point.value} if self._sent.is_new(point.name, point.step) else {})

    def show(self, step: int, images: Mapping[str, Path]) -> None:
        import wandb

        new = {name: path for name, path in images.items() if self._sent.is_new(name, step)}
        self._log_row(step, {name: wandb.Image(str(path)) for name, path in new.items()})

    def _log_row(self, step: int, values: Mapping[str, Any]) -> None:
        """A part of it: W&B writes the row when the next one begins."""
        if values and step >= self._first:
            for name in values.keys() - self._defined:  # one by one: `wandb sync` expands no pattern
                self._run.define_metric(name.replace(".", "\\."), step_metric=STEP)  # or a dot would mean nesting
                self._defined.add(name)
            self._run.log({STEP: step, **values}, step=step)
            self._has_points = True

    def keep(self, files: Mapping[str, Path]) -> None:
        self.artifact(weights_artifact(self._run.id), "model", files)

    def artifact(self, name: str, kind: str, files: Mapping[str, Path], how: Files | None = None) -> None:
        """One artifact of these files and folders, as the setting `files` says unless `how` does."""
        import wandb

        if (how := how or self._files) == "none" or not files:
            return
        artifact = wandb.Artifact(name, type=kind)
        for inside, path in files.items():
            if how == "reference":
                artifact.add_reference(path.absolute().as_uri(), name=inside)
            elif path.is_dir():
                artifact.add_dir(str(path), name=inside, policy="immutable")
            else:
                artifact.add_file(str(path), name=inside, policy="immutable")
        with self._staged():
            self._run.log_artifact(artifact)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table; a path in it is a picture's."""
        self._log_staged({name: _table(columns, rows)})

    def _log_staged(self, values: Mapping[str, Any]) -> None:
        """In the row that was begun last, which ends with it."""
        with self._staged():
            self._run.log(dict(values))

    @contextlib.contextmanager
    def _staged(self) -> Iterator[None]:
        """Inside, what W&B would keep in the user's home until it is uploaded lies beside the run."""
        places, beside = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"), str(Path(self._run.settings.wandb_dir) / "staging")
        before = {name: os.environ.get(name) for name in places}
        os.environ.update({name: own or beside for name, own in before.items()})
        try:
            yield
        finally:
            for name, own in before.items():
                if own is None:
                    os.environ.pop(name)

    def finish(self, quantities: Mapping[str, Quantity], images: Mapping[str, Path]) -> None:
        import wandb

        for name, quantity in quantities.items():
            self._run.summary.update(summary_of(name, quantity))
        known = {name: value for name, each in quantities.items() if (value := value_of(each)) is not None}
        self.configure({GOALS: {name: "maximize" if more_is_better(name) else "minimize" for name in known}})
        if images:
            rows = [(self._run.name, name, path, *known.values()) for name, path in images.items()]
            pictures = {name: wandb.Image(str(path)) for name, path in images.items()}
            self._log_staged({**pictures, SAMPLES: _table(("trial", "picture", "image", *known), rows)})
        self._close(exit_code=0)
        self._remove_earlier()

    def abort(self) -> None:
        self._close(exit_code=1)
        if self._has_points:
            self._remove_earlier()

    def _remove_earlier(self) -> None:
        """This attempt's folder begins with the rows of the earlier ones, whose folders nobody needs."""
        if self._run.settings.mode != "offline":
            return
        mine = Path(self._run.settings.sync_dir)
        for folder in mine.parent.glob(f"offline-run-*-{self._run.id}*"):
            if folder != mine:
                remove(folder)

    def _close(self, exit_code: int) -> None:
        """W&B bounds its own wait for uploads; the thread bounds the wait for W&B's service itself."""
        errors: list[BaseException] = []

        def finish() -> None:
            try:
                self._run.finish(exit_code=exit_code)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=finish, name="wandb finish", daemon=True)
        thread.start()
        thread.join(self._finish_timeout_s + 10.0)
        if errors:
            raise errors[0]
        if thread.is_alive():
            _kill_service()
            raise TimeoutError(f"W&B's service did not answer in {self._finish_timeout_s + 10.0:g} s")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "wandb.Table":
    import wandb

    shown: list[Any] = [[wandb.Image(str(cell)) if isinstance(cell, Path) else cell for cell in row] for row in rows]
    return wandb.Table(columns=list(columns), data=shown)


def start_wandb(config: WandbTracker, run: Run, folder: Path) -> WandbRun:
    """Start or continue the run. Online without an answer from W&B: one warning, and the run is kept offline."""
    import wandb

    try:
        return WandbRun(_init(config, run, folder, config.mode), config.finish_timeout_s, config.files)
    except Exception as error:
        if config.mode != "online":
            raise
        why = first_line(error)
        wandb.teardown(exit_code=1)  # its service holds on to the run's id
        warn(f"W&B cannot be reached ({why}); this run is kept in {folder}/wandb: `wandb sync` uploads it")
        return WandbRun(_init(config, run, folder, "offline"), config.finish_timeout_s, config.files)


def summary_of(name: str, quantity: Quantity) -> dict[str, Any]:
    """A known quantity as its number, with its interval where it has one; any other as words under another name."""
    match quantity:
        case Counted():
            return {name: quantity.value}
        case Measured() | Predicted():
            bounds = {f"{name}/low": quantity.low, f"{name}/high": quantity.high}
            return {name: quantity.value, **{key: value for key, value in bounds.items() if value is not None}}
        case Unavailable():
            return {f"{name}/unavailable": quantity.reason}
        case Failed():
            return {f"{name}/failed": f"{quantity.phase}: {quantity.message}"}


def _kill_service() -> None:
    """End W&B's service, which does not answer: at the exit of Python W&B would wait for it for ever.

    There is no public way; a test that stops the service holds this to the pinned version.
    """
    from wandb.sdk import wandb_setup

    connection = wandb_setup.singleton()._connection
    if connection is not None and connection._proc is not None:
        connection._proc._process.kill()


def _init(config: WandbTracker, run: Run, folder: Path, mode: Any) -> "wandb.Run":
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,  # the record has the commit
        save_code=False,
        symlink=False,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=config.start_timeout_s,
        login_timeout=config.start_timeout_s,
        finish_timeout=config.finish_timeout_s,
    )
    return wandb.init(
        project=config.project,
        entity=config.entity,
        id=run.id,
        name=run.name,
        group=run.group,
        job_type=run.job_type,
        config=dict(run.config),
        tags=[tag[:LONGEST_TAG] for tag in run.tags],
        dir=str(folder),
        mode=mode,
        resume="allow" if mode == "online" else None,  # see above
        reinit="create_new",
        settings=settings,
    )
