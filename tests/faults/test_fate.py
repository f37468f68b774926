"""Where the tests of deaths count."""

from faults.fate import KILLS, MOST_MOMENTS, QUOTA, WHERE

from aimass.parameters import layout
from aimass.training.workers import words


def test_deaths_are_counted_in_words_that_nobody_else_writes():
    ours = {KILLS, QUOTA, *range(WHERE, WHERE + MOST_MOMENTS)}
    slots = {name: word for name, word in vars(layout).items() if name.startswith("SLOT_") and name != "SLOT_FREE"}
    workers = {name: word for name, word in vars(words).items() if name.isupper() and name != "SLOT_FREE"}
    assert [name for name, word in (slots | workers).items() if word in ours] == []
    assert len(ours) == 2 + MOST_MOMENTS
    assert max(ours) < layout.SLOT_PART
