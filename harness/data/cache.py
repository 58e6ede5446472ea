"""Reading what a cache holds. A file appears there whole, so one that cannot be read was damaged since."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.records.errors import UserError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Inside, a cache file that cannot be read is a UserError that says what to do: it can be computed again."""
    try:
        yield
    except Exception as error:  # whatever json, NumPy, zip files and safetensors raise of damaged bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(f"the cache {path} is damaged ({reason}); remove it and run the same command again") from error
