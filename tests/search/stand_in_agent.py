"""A stand-in for a Mac's agent, in a process of its own: it answers a folder queue in its real format, without a phone.

    python stand_in_agent.py QUEUE LOG [SECONDS]

It claims two requests, takes SECONDS, and answers the later one first. Of three packages it says that one fails. LOG
gets a line for each answer. It never ends by itself.
"""

import sys
import time
from pathlib import Path

from harness.device.queue import PACKAGE, FolderQueue
from harness.device.targets import Identity
from harness.records.quantity import Failed, Measured

PHONE = Identity(device="iPhone", id="aaaa", os_version="18.1", os_build="22B83", chip="A17 Pro")
LEASE_S = 1.0


def answer_for(weights: bytes) -> Measured | Failed:
    """A function of the package alone."""
    number = sum(weights)
    if number % 3 == 0:
        return Failed(phase="parity", message="the outputs agree to 12 dB, below 35 dB")
    return Measured(value=1.0 + number % 1000, unit="ms", conditions={"device": "iPhone", "chip": "A17 Pro"})


def weights_of(package: Path) -> bytes:
    return (package / "Data" / "com.apple.CoreML" / "weight.bin").read_bytes()


def main(root: str, log: str, seconds: str = "0.5") -> None:
    queue = FolderQueue(Path(root), lease_s=LEASE_S)
    with queue.alive() as owner:
        while True:
            queue.release_dead_claims()
            claims = [entry for entry in (queue.claim(owner, PHONE.chip), queue.claim(owner, PHONE.chip)) if entry]
            time.sleep(float(seconds))
            for entry in reversed(claims):
                queue.finish(entry, PHONE, answer_for(weights_of(queue.folder(entry.request) / PACKAGE)))
                with Path(log).open("a") as file:
                    file.write(f"{entry.request.id}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
