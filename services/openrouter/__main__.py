"""`python -m services.openrouter`."""

from services.common.server import main
from services.openrouter.backend import OpenRouterBackend

if __name__ == "__main__":
    main(OpenRouterBackend)
