"""A worker of one attempt whose imports last until the test lets them: python -m worker_imports_slowly FOLDER."""

import sys
import time
from pathlib import Path

ATTEMPT = Path(sys.argv[1])
(ATTEMPT / "imports").touch()
DEADLINE = time.monotonic() + 120
while not (ATTEMPT / "go").exists() and time.monotonic() < DEADLINE:
    time.sleep(0.02)

from harness.launch.worker import Job  # noqa: E402

print(Job(ATTEMPT, owns_process=True)())
