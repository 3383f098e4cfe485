"""The hf service: HuggingFace transformers on CPU or GPU, batched continuously."""
