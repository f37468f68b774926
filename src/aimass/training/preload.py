"""What a worker needs, imported once in the process that forks them."""

PRELOAD = (
    "aimass.training.worker",
    "aimass.training.exchange",
    "aimass.training.strategies.allreduce",
    "aimass.training.strategies.async_sgd",
    "aimass.models.families.linear",
    "aimass.models.families.mlp",
)
