"""The backends. Each is a service: `python -m services.<name>`.

This package must exist: without it the folder `services/vllm` could be taken for
the library `vllm`.
"""
