"""What a process of a run can be doing, as a number in its slot. Nothing here imports torch."""

STARTING, LEASING, PULLING, COMPUTING, PUSHING, WAITING, REDUCING, EVALUATING, SAVING, TENDING = range(10)

NAMES = (
    "starting",
    "waiting for a lease",
    "pulling parameters",
    "computing",
    "pushing its update, or pulling parameters",
    "waiting for the others",
    "adding up gradients with the others",
    "evaluating",
    "saving a checkpoint",
    "tending the workers",
)
"""What each is called."""

AWAITS_OTHERS = frozenset({LEASING, WAITING, REDUCING, TENDING})
"""Those that end when somebody else gets on."""

AWAITS_LOCKS = frozenset({PULLING, PUSHING})
"""Those that may have to wait for a lock, unless the worker is the one who holds it."""
