"""A broken worker for the mutation test: imported there, it grants every lock, and nothing refuses."""

import os
from pathlib import Path

from harness.launch.attempt import Attempt
from harness.processes.locks import FileLock


def _grant(cls: type[FileLock], path: Path, **_owner: object) -> FileLock:
    return cls(path, os.open(path, os.O_RDWR | os.O_CREAT))


FileLock.acquire = classmethod(_grant)  # type: ignore
Attempt.is_current = property(lambda _self: True)  # type: ignore
