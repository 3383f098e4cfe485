"""`python -m release [--out FOLDER]`: build the packages, install and use them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from release import build, contents, install
from release.pythons import RELEASES, find_pythons


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m release")
    parser.add_argument("--out", type=Path, default=build.ROOT / "dist", help="default: dist")
    options = parser.parse_args()
    try:
        _release(options.out)
    except build.ReleaseError as error:
        sys.exit(f"packages: {error}")


def _release(out: Path) -> None:
    for old in (*out.glob("arena_llm*.whl"), *out.glob("arena_llm*.tar.gz")):
        old.unlink()
    files = build.build(out)
    contents.check(files)
    print(f"built twice, with the same bytes: {build.write_digests(files)}", flush=True)
    pythons = find_pythons()
    client, _, services = install.find_wheels(files)
    for release in RELEASES:
        serves = contents.is_for(services, release)
        if release in pythons:
            python = pythons[release]
            server = python if serves else sys.executable
            with tempfile.TemporaryDirectory() as folder:
                install.try_out(files, Path(folder), python, server)
        for wheels in ([client], [services, client])[: 1 + serves]:
            extras = contents.read_metadata(wheels[0]).provides_extra or []
            for extra in ("", *extras):
                if extra != install.FROM_ELSEWHERE:
                    install.resolve(wheels, extra, release)
        what = "the client and the services" if serves else "the client"
        how = "installed and called" if release in pythons else "can be installed; not run here"
        print(f"Python {release}: {what}, {how}", flush=True)


if __name__ == "__main__":
    main()
