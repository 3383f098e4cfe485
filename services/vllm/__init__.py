"""The vllm service: GPU inference on vLLM's engine, which runs on CPUs for tests as well."""
