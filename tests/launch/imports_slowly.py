"""Takes a minute to import, unless the pool's folder says otherwise."""

import time
from pathlib import Path

ROOT = Path("/proc/self/fd/2").readlink().parent  # the server's log lies in it
DEADLINE = time.monotonic() + 60
while not (ROOT / "quickly").exists() and time.monotonic() < DEADLINE:
    time.sleep(0.05)
