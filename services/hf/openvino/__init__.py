"""The forward pass over OpenVINO: faster than transformers on a CPU, and it needs no torch."""
