"""The identity of a Core ML package: a hash of what it computes.

Two exports of one network differ in bytes: Manifest.json holds random identifiers, the specification the day of the
conversion and maps in any order. So the specification is hashed without its free-text metadata and with sorted maps,
together with the weight files as they are.
"""

import hashlib
from pathlib import Path

from harness.records.errors import UserError

DATA = Path("Data/com.apple.CoreML")
MODEL = DATA / "model.mlmodel"


def package_hash(package: Path) -> str:
    """16 hex digits for the program and its weights; UserError where the folder is no ML program package."""
    if not (package / MODEL).is_file():
        raise UserError(f"{package} is no Core ML package: it has no {MODEL}; `harness export` writes one")
    digest = hashlib.sha256(_program(package / MODEL))
    for path in sorted((package / DATA).rglob("*")):
        if path.is_file() and path != package / MODEL:
            digest.update(f"\n{path.relative_to(package).as_posix()} {file_hash(path)}".encode())
    return digest.hexdigest()[:16]


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _program(path: Path) -> bytes:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from harness.device.apple import coremltools

    model = coremltools().proto.Model_pb2.Model()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise UserError(f"{path} is no Core ML specification ({error}); export the package again") from error
    model.description.metadata.userDefined.clear()
    return bytes(model.SerializeToString(deterministic=True))
