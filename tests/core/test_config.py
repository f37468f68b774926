import pytest

from aimass.core.config import Config, Seconds, nest
from aimass.core.errors import UsageError


class Inner(Config):
    size: int = 1


class Outer(Config):
    inner: Inner = Inner()
    pause: Seconds = 1.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"size": "large"}}, r"inner\.size='large': input should be a valid integer"),
        ({"inner": {"seize": 3}}, r"there is no setting 'inner\.seize'; did you mean 'inner\.size'"),
        ({"iner": 3}, "there is no setting 'iner'; did you mean 'inner'"),
        ({"pause": "5 fortnights"}, "pause='5 fortnights': a duration is a number of seconds"),
        ({"pause": float("nan")}, "pause=nan"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_its_full_name(values, words):
    with pytest.raises(UsageError, match=words):
        Outer.parse(values)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Inner().size = 3


@pytest.mark.parametrize(("text", "expected"), [("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("1d", 86400.0), ("3", 3.0), (4, 4.0)])
def test_durations(text, expected):
    assert Outer.parse({"pause": text}).pause == expected


def test_dotted_names_nest_in_any_order_and_leave_their_source_alone():
    expected = {"optimizer": {"name": "adam", "lr": 0.1}}
    assert nest({"optimizer": "adam", "optimizer.lr": 0.1}) == expected
    assert nest({"optimizer.lr": 0.1, "optimizer": "adam"}) == expected
    given = {"optimizer": {"name": "adam"}, "optimizer.lr": 0.1}
    assert nest(given) == expected
    assert given["optimizer"] == {"name": "adam"}
