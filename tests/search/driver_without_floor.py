"""A driver of a sweep whose few steps beat no Gaussian: the life of a process that `driver_processes.start_call` has
made. Its candidates are held against no floor, so its first job is a training."""

from harness import cli
from harness.search import driver


def main(words: list[str]) -> int:
    driver.floor_of = lambda *_: None
    return cli.main(words)
