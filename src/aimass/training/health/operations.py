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

COMPUTE, EXCHANGE, WAIT, IDLE = "COMPUTE", "EXCHANGE", "WAIT", "IDLE"
STATES = (IDLE, IDLE, EXCHANGE, COMPUTE, EXCHANGE, WAIT, WAIT, IDLE, IDLE, IDLE)
"""The state in which each leaves a worker: it computes; it pushes or pulls; it waits for the others or for p; it has nothing to do."""

AWAITS_OTHERS = frozenset({LEASING, WAITING, REDUCING, TENDING})
"""Those that end when somebody else gets on."""

AWAITS_LOCKS = frozenset({PULLING, PUSHING})
"""Those that may have to wait for a lock, unless the worker is the one who holds it."""
