"""Take the picture of the report that README.md shows: `python -m docs.images.take PAGE`.

PAGE is the page that `make demo` writes, `.run/demo/arena.html`. Needs Debian's Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.browser import chromium

PICTURE = Path(__file__).with_name("report.png")
WIDTH, HEIGHT = 1200, 1000


def main(page: str) -> None:
    """Open the page in a window of fixed size, and save what it shows."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
        driver.set_window_size(WIDTH, HEIGHT)
        driver.get(Path(page).resolve().as_uri())
        driver.save_screenshot(str(PICTURE))


if __name__ == "__main__":
    main(*sys.argv[1:])
