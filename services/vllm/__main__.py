"""`python -m services.vllm`."""

from services.common.server import main
from services.vllm.backend import VllmBackend

if __name__ == "__main__":
    main(VllmBackend)
