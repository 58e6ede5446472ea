"""An agent in a process of its own, on the double of a phone; killed as with kill -9 where it is told to be.

    python agent_process.py QUEUE LOG POINT LEASE_S [flags of `harness latency agent`]

POINT is "never", or where the process ends: "after_claim", "while_measuring", "before_result" or "after_result". LOG
gets a line for every measurement that begins and for every one that ends. It goes through the command line, and
refuses to load what an agent's installation lacks.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fake_coremltools

MISSING = ("torch", "optuna", "hydra", "omegaconf", "submitit", "pandas", "scipy", "sklearn", "transformers")


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, action):
    """`action` runs before every call of the method."""
    method = getattr(owner, name)

    def wrapped(*arguments, **named):
        action(*arguments, **named)
        return method(*arguments, **named)

    setattr(owner, name, wrapped)


def after(owner, name, action):
    method = getattr(owner, name)

    def wrapped(*arguments, **named):
        result = method(*arguments, **named)
        if result is not None:
            action()
        return result

    setattr(owner, name, wrapped)


def arrange(point, log):
    from harness.device.agent import Agent
    from harness.device.queue import FolderQueue
    from harness.device.targets import Iphone

    runs = []

    def note():
        runs.append(1)
        if len(runs) == 12 and point == "while_measuring":
            die()

    fake_coremltools.world.on_predict = note
    before(FolderQueue, "finish", lambda _queue, entry, *_: append(log, f"ended {entry.request.id}"))
    if point == "after_claim":
        after(FolderQueue, "claim", die)
    elif point == "before_result":
        before(FolderQueue, "finish", die)
    elif point == "after_result":
        before(FolderQueue, "close", die)
    Iphone._check_started = started
    before(Agent, "_measured", lambda _agent, entry, _protocol: append(log, f"begins {entry.request.id}"))


async def started(*_):
    """The three seconds in which an app shows whether it runs."""


def append(log, line):
    with Path(log).open("a") as file:
        file.write(f"{os.getpid()} {line}\n")


def main():
    queue, log, point, lease_s, *flags = sys.argv[1:]
    for name in MISSING:
        sys.modules[name] = None  # an import of it fails
    fake_coremltools.install()
    sys.platform = "darwin"
    arrange(point, log)
    from harness.cli import main as harness

    work = ["--team", "ABCDE12345", "--working-directory", str(Path(queue).parent / "work")]
    return harness(["latency", "agent", queue, "--lease-s", lease_s, "--poll-s", "0.05", *work, *flags])


if __name__ == "__main__":
    sys.exit(main())
