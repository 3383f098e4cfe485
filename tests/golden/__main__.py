import sys

from tests.golden import FOLDER, GOLDEN

for name in sys.argv[1:] or GOLDEN:
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(GOLDEN[name](), encoding="utf-8")
    print(path)
