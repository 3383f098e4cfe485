"""Before an expensive run: can all its models run? The same as `arena-llm validate`.

python3 scripts/utils/model_validator.py --models MODEL...
python3 scripts/utils/model_validator.py --config FILE
"""

from __future__ import annotations

import sys

try:
    from arena_llm.cli import main
except ImportError as error:
    sys.exit(
        f"{sys.executable} cannot load the client ({error}): run `make setup`, then use "
        f".venv/bin/python in place of python3"
    )

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
