"""`harness --help` against `import torch`, which it must do without."""

import subprocess
import sys
from pathlib import Path

import pytest

from .interleaved import ratio_of_times

pytestmark = pytest.mark.benchmark(group="start-up")
LIMIT_SECONDS = 0.5


def test_help_appears_in_half_a_second(benchmark):
    harness = str(Path(sys.executable).with_name("harness"))
    ratio = ratio_of_times(
        benchmark,
        lambda: subprocess.run([harness, "--help"], check=True, capture_output=True),
        lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
        name="harness --help / import torch: time",
    )
    assert ratio.ours < LIMIT_SECONDS
    assert ratio.median < 1
