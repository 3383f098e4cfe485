"""Check before an expensive run whether all its models can run. The same as `arena validate`.

python3 scripts/utils/model_validator.py --models MODEL...
python3 scripts/utils/model_validator.py --config FILE
"""

from __future__ import annotations

import sys

from environment import enter  # type: ignore[import-not-found]  # it is beside this script

try:
    from arena.cli import main
except ImportError as error:
    enter(error)

if __name__ == "__main__":
    sys.exit(main(["validate", *sys.argv[1:]]))
