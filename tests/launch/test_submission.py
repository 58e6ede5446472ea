"""What `--dry-run` shows of the jobs is what would be submitted."""

from harness.launch.config import SlurmLauncher
from harness.launch.executors import submission_of
from harness.launch.pool import Pool
from harness.launch.snapshot import HOLD_SIGNALS


def test_the_script_shown_is_the_one_that_submitit_submits(tmp_path, slurm_stand_in):
    """Of one job and of an array, all of it but the folders' own names of the moment."""
    launcher = SlurmLauncher(partition="main", cpus=2, mem_gb=3.5, gpus=1, poll_interval_s=0.05)
    for count in (1, 2):
        root = tmp_path / str(count) / "attempts"
        keys = [f"k{at}" for at in range(count)]
        shown = submission_of(launcher, root, keys)
        with Pool(root, launcher) as pool:
            for key in keys:
                pool.submit(key, print)
            pool.poll()
        scripts = sorted(slurm_stand_in.glob("script*"))
        assert shown == scripts[-1].read_text()
        assert HOLD_SIGNALS in shown, "a signal does not end a worker that still imports"
