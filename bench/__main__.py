"""`python -m bench [NAME...]`: these benchmarks, or all, each in its own process."""

import subprocess
import sys

from bench import BENCHMARKS

names = sys.argv[1:] or BENCHMARKS
for unknown in set(names) - set(BENCHMARKS):
    sys.exit(f"no benchmark {unknown}; there are {', '.join(BENCHMARKS)}")
for name in names:
    subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
