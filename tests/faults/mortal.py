"""A worker of rounds that kills itself at one of the moments at which a death could matter, in its first rounds.

It runs the real worker on the real server; only a SIGKILL is aimed.
"""

from faults.fate import Fate

from aimass.parameters.rounds import RoundServer
from aimass.training import planes
from aimass.training.workers import worker

MOMENTS = ("compute", "fill", "filled", "shard", "in update", "updated", "commit", "committed", "take over", "anywhere")
_LONGEST_LIFE = 30  # in moments, of which a round has about 9


class MortalServer(RoundServer):
    """Asks its fate at every moment of a round."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.reached = Fate(self, MOMENTS, _LONGEST_LIFE).reached
        apply = self.update.apply

        def apply_in_halves(p, gradient, states, *rest):
            half = len(p) // 2
            if half:
                apply(p[:half], gradient[:half], [state[:half] for state in states], *rest)
                self.reached("in update")
            apply(p[half:], gradient[half:], [state[half:] for state in states], *rest)

        self.update.apply = apply_in_halves

    @property
    def gradient(self):
        if self.part is not None:
            self.reached("compute")
        return super().gradient

    def _fill(self, part, weight):
        self.reached("fill")
        super()._fill(part, weight)
        self.reached("filled")

    def _bring_on(self, shard, now, acting):
        self.reached("shard")
        super()._bring_on(shard, now, acting)
        self.reached("updated")

    def _take_over(self, shard, acting):
        super()._take_over(shard, acting)
        self.reached("take over")

    def _commit_round(self, now):
        self.reached("commit")
        done = super()._commit_round(now)
        self.reached("committed")
        return done


def main(context):
    """The worker's entry, run in the forked process."""
    planes.RoundServer = MortalServer
    worker_main(context)


worker_main = worker.main
