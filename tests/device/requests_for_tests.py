"""Packages of any content, requests for them, and a device that always has an answer."""

import hashlib
from contextlib import asynccontextmanager
from unittest.mock import patch

import numpy as np

from harness.device import queue as queue_module
from harness.device.queue import FolderQueue
from harness.device.request import BenchmarkProtocol
from harness.device.targets import Identity
from harness.records.quantity import Measured

QUICK = BenchmarkProtocol(iterations=15, warm_up_window=2, warm_up_most=20, cool_down_s=0)
PHONE = Identity(device="iPhone", id="aaaa", os_version="18.1", os_build="22B83", chip="A17 Pro")
NUMBER = Measured(value=12.0, unit="ms", low=11.0, high=13.0, conditions={"device": "iPhone"})


def hash_of(content):
    return hashlib.sha256(content).hexdigest()[:16]


def package(folder, content=b"a network"):
    """A package's files; its program is any bytes, so `submitted` hashes the weights alone."""
    path = folder / f"{hash_of(content)}.mlpackage"
    weights = path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(content)
    (weights.parent.parent / "model.mlmodel").write_bytes(b"program")
    (path / "Manifest.json").write_text("{}")
    return path


def arrays(value=1.0):
    return {"x": np.full((1, 4, 8, 8), value, np.float32)}


def submitted(queue: FolderQueue, folder, content=b"a network", protocol=QUICK, **more):
    """A request in the queue; its id. Without coremltools, which would read the program."""
    with patch.object(queue_module, "package_hash", lambda _path: hash_of(content)):
        return queue.submit(package(folder, content), arrays(), {"out": arrays(2.0)["x"]}, protocol, **more)


class StubTarget:
    identity = PHONE

    def identify(self):
        return self.identity

    def surroundings(self):
        return {}

    @asynccontextmanager
    async def opened(self):
        yield None
