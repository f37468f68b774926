"""What can happen in a run, by subject. Each is kept, in order, in the run's `events.jsonl`.

To import this makes every kind known, so that what a run's file holds can be read again.
"""

from aimass.training.events.checkpoints import CheckpointFailed as CheckpointFailed
from aimass.training.events.checkpoints import CheckpointUnreadable as CheckpointUnreadable
from aimass.training.events.checkpoints import CheckpointWritten as CheckpointWritten
from aimass.training.events.choices import OptimizerChosen as OptimizerChosen
from aimass.training.events.choices import PrecisionChosen as PrecisionChosen
from aimass.training.events.choices import StrategyChosen as StrategyChosen
from aimass.training.events.course import EpochEnded as EpochEnded
from aimass.training.events.course import Progress as Progress
from aimass.training.events.course import RunEnded as RunEnded
from aimass.training.events.course import RunStarted as RunStarted
from aimass.training.events.course import StartedFrom as StartedFrom
from aimass.training.events.division import BlocksOwned as BlocksOwned
from aimass.training.events.division import GroupsFormed as GroupsFormed
from aimass.training.events.division import GroupsSeen as GroupsSeen
from aimass.training.events.division import ModelSliced as ModelSliced
from aimass.training.events.division import SupernodeReplaced as SupernodeReplaced
from aimass.training.events.health import Diverged as Diverged
from aimass.training.events.health import FitJudged as FitJudged
from aimass.training.events.health import GradientRefused as GradientRefused
from aimass.training.events.health import RolledBack as RolledBack
from aimass.training.events.health import WebhookFailed as WebhookFailed
from aimass.training.events.health import WorkerRecovered as WorkerRecovered
from aimass.training.events.health import WorkersSampled as WorkersSampled
from aimass.training.events.health import WorkerStalled as WorkerStalled
from aimass.training.events.workers import DriverPaused as DriverPaused
from aimass.training.events.workers import LeaseReassigned as LeaseReassigned
from aimass.training.events.workers import Scaled as Scaled
from aimass.training.events.workers import TasksDone as TasksDone
from aimass.training.events.workers import WorkerLeft as WorkerLeft
from aimass.training.events.workers import WorkerLost as WorkerLost
from aimass.training.events.workers import WorkerStarted as WorkerStarted
from aimass.training.events.workers import WorkerStates as WorkerStates
from aimass.training.events.workers import WorkerStuck as WorkerStuck
