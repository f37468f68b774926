from aimass.serving.engine.pace import Pace


def test_a_batch_that_took_too_long_is_followed_by_smaller_ones():
    pace = Pace(max_batch=1000, limit_s=0.01)
    pace.note(rows=200, took_s=0.02, more_waited=True)
    assert pace.rows == 100
    pace.note(rows=100, took_s=10.0, more_waited=True)
    assert pace.rows == 25
    for _ in range(10):
        pace.note(rows=1, took_s=10.0, more_waited=True)
    assert pace.rows == 1


def test_one_large_request_does_not_make_others_wait_for_ever():
    pace = Pace(max_batch=1000, limit_s=0.01)
    before = pace.rows
    pace.note(rows=10_000, took_s=0.1, more_waited=False)
    assert pace.rows == before


def test_quick_batches_grow_while_rows_wait_and_never_beyond_the_most():
    pace = Pace(max_batch=1000, limit_s=0.01)
    first = pace.rows
    pace.note(rows=first, took_s=0.001, more_waited=False)
    assert pace.rows == first
    for _ in range(5):
        pace.note(rows=first, took_s=0.001, more_waited=True)
    assert pace.rows == 1000
