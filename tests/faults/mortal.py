"""A worker of rounds, or of averages, that kills itself at one of the moments at which a death could matter, in its first rounds.

It runs the real worker on the real server; only a SIGKILL is aimed.
"""

from faults import killing
from faults.fate import Fate, die_inside

from aimass.parameters.averages import AverageServer
from aimass.parameters.rounds import RoundServer
from aimass.training import planes
from aimass.training.strategies.model_averaging import ModelAveragingConfig
from aimass.training.workers import entry

MOMENTS = ("compute", "fill", "filled", "shard", "in update", "updated", "commit", "committed", "take over", "anywhere")
AVERAGE_MOMENTS = ("decide", "in commit", *MOMENTS)
_LONGEST_LIFE = 30  # in moments, of which a round has about 9


class Mortal:
    """Asks its fate at every moment of a round."""

    moments = MOMENTS

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.reached = Fate(self, self.moments, _LONGEST_LIFE).reached
        die_inside(self.update, self.reached)

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


class MortalServer(Mortal, RoundServer):
    """Of rounds."""

    @property
    def gradient(self):
        if self.part is not None:
            self.reached("compute")
        return super().gradient

    def _fill(self, part, weight):
        self.reached("fill")
        super()._fill(part, weight)
        self.reached("filled")


class MortalAverages(Mortal, AverageServer):
    """Of averages."""

    moments = AVERAGE_MOMENTS

    def pull(self, out):
        self.reached("compute")
        return super().pull(out)

    def _fill_slot(self, slot, ticket):
        self.reached("fill")
        filled = super()._fill_slot(slot, ticket)
        self.reached("filled")
        return filled

    def decide(self):
        super().decide()
        self.reached("decide")

    def _commit_part(self, slot):
        super()._commit_part(slot)
        self.reached("in commit")


def main(context):
    """The worker's entry, run in the forked process."""
    planes.RoundServer = MortalServer
    worker_main(context)


def main_of_averages(context):
    """The same of a worker that averages."""
    planes.AverageServer = MortalAverages
    worker_main(context)


def main_of_integers(context):
    """The same on integers that are added up, so that each batch can be told from p."""
    ModelAveragingConfig.sums_parts = True
    entry.Learner = killing.IntegerLearner
    entry.outer_update = lambda config: killing.IntegerUpdate()
    main_of_averages(context)


worker_main = entry.main
