"""Beginning from a model that was trained before."""
