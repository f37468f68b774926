import pytest

from aimass.core.errors import UsageError
from aimass.models.losses import PRIMARY
from aimass.models.tasks import TASKS, build_task
from aimass.training.config import StopConfig
from aimass.training.stopping import StopRules, check_target


def rules(primary=("accuracy", "max"), **config):
    return StopRules(StopConfig(**config), primary)


def add(made, train_loss=1.0, **validation):
    epoch = {"train_loss": train_loss, "validation": validation}
    made.history.append({**epoch, "is_best": made.is_best(epoch)})
    return made.judge()


def test_a_target_is_reached_from_either_side():
    high, low = rules(target="accuracy>=0.9"), rules(target="loss<=0.5")
    assert add(high, accuracy=0.89) is None
    assert add(high, accuracy=0.9) == ("target", "accuracy is 0.9, and accuracy>=0.9 was wanted")
    assert add(low, loss=0.6) is None
    assert add(low, loss=0.5)[0] == "target"
    assert add(rules(target="train_loss<=1"), train_loss=1.0)[0] == "target"


def test_a_target_that_nobody_measures_is_an_error_with_what_is_measured():
    with pytest.raises(UsageError, match="'f2', and this run measures: accuracy, loss, train_loss"):
        add(rules(target="f2>=1"), accuracy=0.1, loss=2)


@pytest.mark.parametrize("task", TASKS)
def test_a_target_is_one_of_what_an_epoch_of_the_task_measures(task):
    assert build_task(task).primary == PRIMARY[task]
    for metric in ("loss", "train_loss", PRIMARY[task][0]):
        check_target(StopConfig(target=f"{metric}<=1"), task)
    with pytest.raises(UsageError, match=rf"'f2', and this run measures: .*{PRIMARY[task][0]}.*train_loss"):
        check_target(StopConfig(target="f2>=1"), task)
    check_target(StopConfig(), task)


def test_patience_counts_epochs_since_the_best():
    made = rules(patience=2)
    found = [add(made, accuracy=value) for value in (0.5, 0.6, 0.6, 0.55)]
    assert found[:3] == [None] * 3
    assert found[3] == ("patience", "accuracy has not been better for 2 epochs")


def test_smaller_is_better_for_errors_and_without_validation_the_training_loss_counts():
    made = rules(("rmse", "min"), patience=1)
    assert add(made, rmse=2.0) is None
    assert add(made, rmse=1.0) is None
    assert add(made, rmse=1.5)[0] == "patience"
    alone = rules(patience=1)
    assert add(alone, train_loss=2.0) is None
    assert add(alone, train_loss=3.0)[0] == "patience"


def test_tolerance_wants_three_quiet_epochs():
    made = rules(tolerance=0.01)
    found = [add(made, train_loss=loss) for loss in (1.0, 0.5, 0.499, 0.498, 0.3, 0.299, 0.298, 0.297)]
    assert [index for index, reason in enumerate(found) if reason] == [7]
    assert found[7][0] == "tolerance"


def test_the_budget_counts_the_time_before_a_resumption():
    made = StopRules(StopConfig(budget=1000), ("accuracy", "max"), elapsed_before_s=999.0)
    assert made.out_of_time() is None
    made.elapsed_before_s = 1000.0
    assert made.out_of_time()[0] == "budget"
