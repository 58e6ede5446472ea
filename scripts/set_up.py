"""Make the virtual environment: check Python and the free disk, then install the pinned dependencies.

Runs with the standard library alone, under any Python 3, so that an old one can be told in a sentence.
"""

import argparse
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 11), (3, 13)  # coremltools 9.0 ships wheels for these
# Measured with `du -sh .venv`, plus as much again for pip's downloads where it matters.
# Linux wheels of PyTorch bring CUDA along; other platforms' and a CPU index's do not.
GIGABYTES_CUDA, GIGABYTES_CPU = 10, 4


def main():
    options = parse()
    check_python()
    check_disk(options)
    venv = os.path.join(ROOT, options.venv)
    if not os.path.exists(os.path.join(venv, "bin", "python")):
        print("creating %s" % options.venv, flush=True)
        subprocess.check_call([sys.executable, "-m", "venv", venv])
    install(venv, options)
    for name in ["run", *options.extra]:  # the Makefile's stamps that this installation satisfies
        with open(os.path.join(venv, ".installed-%s" % name), "w"):
            pass


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=".venv")
    parser.add_argument("--torch-index", default="", help="a package index to take torch and torchvision from")
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml; may be repeated")
    return parser.parse_args()


def check_python():
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.exit(
            "Python %d.%d to %d.%d is needed, this is %d.%d (%s); name another with: make PYTHON=/path/to/python3.11"
            % (OLDEST + NEWEST + sys.version_info[:2] + (sys.executable,))
        )


def check_disk(options):
    if os.path.exists(os.path.join(ROOT, options.venv, ".installed-run")):
        return  # the large part is there already
    needed = GIGABYTES_CUDA if sys.platform == "linux" and not options.torch_index else GIGABYTES_CPU
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        sys.exit("%d GB of free disk are needed in %s, %.1f GB are there; free some space" % (needed, ROOT, free))


def install(venv, options):
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip.append("--no-compile")  # it would compile 22,000 modules on one core, which takes half of its time
    pinned = ["--constraint", os.path.join(ROOT, "constraints.txt")]
    print("installing the pinned dependencies (minutes the first time)", flush=True)
    commands = []
    if options.torch_index:
        commands.append(pip + pinned + ["--index-url", options.torch_index, "torch", "torchvision"])
    extras = ",".join(["study", *options.extra])
    commands.append(pip + pinned + ["--editable", "%s[%s]" % (ROOT, extras)])
    for command in commands:
        if subprocess.call(command) != 0:
            sys.exit("pip could not install the dependencies (its message is above); once mended, run make again")
    # some files are no Python 3 and stay; a third are packages' own tests, and networks of which few are used
    unused = r"site-packages/(.*/tests?/|transformers/models/)"
    subprocess.call([pip[0], "-m", "compileall", "-qq", "-j", "0", "-x", unused, os.path.join(venv, "lib")])


if __name__ == "__main__":
    main()
