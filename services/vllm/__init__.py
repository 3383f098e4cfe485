"""The vllm service: GPU inference with vLLM, which also runs on CPUs for tests."""
