import errno

import pytest

from aimass.core import errors
from aimass.core.errors import AimassError, NotFound, StorageError, Unauthorized, Unavailable, error_headers, storage_errors, unknown_name


def every_error(kind=AimassError):
    own = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [kind, *(below for child in own for below in every_error(child))]


def test_each_kind_of_error_has_an_exit_code_of_its_own():
    codes = [kind.exit_code for kind in every_error()]
    assert len(codes) == len(set(codes))
    assert all(0 < code < 256 for code in codes)
    assert len({kind.code for kind in every_error()}) == len(codes)


def test_an_unknown_name_answers_with_the_nearest_and_all_others():
    assert "did you mean 'momentum'" in str(unknown_name("optimizer", "momentun", ["sgd", "momentum"]))
    assert str(unknown_name("optimizer", "xyz", ["sgd"])) == "there is no optimizer 'xyz'. Known: sgd"


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space is left"), (errno.EACCES, "may not be written"), (errno.EFBIG, "larger than"), (errno.EIO, "check the disk")],
)
def test_what_the_disk_says_becomes_a_sentence(tmp_path, number, words):
    with pytest.raises(StorageError, match=words), storage_errors(tmp_path):
        raise OSError(number, "said so")


def test_errors_module_names_what_it_offers():
    assert errors.Cancelled.exit_code == 130


def test_the_same_headers_go_with_an_error_wherever_it_is_answered():
    assert error_headers(Unauthorized("no key")) == {"www-authenticate": "Bearer"}
    assert error_headers(NotFound("no file")) == {}
    later = Unavailable("full")
    later.retry_after_s = 0.25
    assert error_headers(later) == {"retry-after": "1", "retry-after-ms": "250"}
