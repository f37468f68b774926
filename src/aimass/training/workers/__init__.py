"""The workers of a run: what each does, and how the driver starts, watches, scales and replaces them."""
