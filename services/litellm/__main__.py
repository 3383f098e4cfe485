"""`python -m services.litellm`."""

from services.common.server import main
from services.litellm.backend import LiteLlmBackend

if __name__ == "__main__":
    main(LiteLlmBackend)
