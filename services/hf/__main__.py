"""`python -m services.hf`."""

from services.common.server import main
from services.hf.backend import HfBackend

if __name__ == "__main__":
    main(HfBackend)
