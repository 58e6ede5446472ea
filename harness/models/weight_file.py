"""Weight files that come with installed packages: found, and proved to be the ones meant."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from harness.records.errors import UserError


def packaged_file(package: str, relative: str, sha256: str) -> Path:
    """The path of a file inside an installed package whose sha256 begins so; the package is not imported.

    Raises UserError where the package or the file is missing, or the content is another.
    """
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    paths = [Path(place) / relative for place in places if (Path(place) / relative).exists()]
    if not paths:
        raise UserError(
            f"the file {relative} of the Python package '{package}' is not installed; "
            f"run `pip install --force-reinstall {package.replace('_', '-')}`"
        )
    return verified(paths[0], sha256)


def verified(path: Path, sha256: str) -> Path:
    """`path` itself, if its sha256 begins with the given hex digits; else a UserError."""
    found = file_sha256(path)
    if not found.startswith(sha256):
        raise UserError(
            f"{path} is not the weight file meant: its sha256 begins {found[:8]}, not {sha256[:8]}; fetch it again"
        )
    return path


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content in hex; a file that cannot be read is a UserError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give the path of an existing file") from error
