import pytest

from aimass.core.patterns import fits, read_patterns


@pytest.mark.parametrize(
    ("name", "pattern", "does"),
    [
        ("features.0.weight", "features.*", True),
        ("features.0.weight", "features", True),
        ("features.0.weight", "features.0", True),
        ("features.10.weight", "features.1", False),
        ("head.weight", "*.bias", False),
        ("layers.3.bias", "layers.?.bias", True),
        ("Head.weight", "head", False),
    ],
)
def test_a_name_fits_a_pattern_or_lies_below_it(name, pattern, does):
    assert fits(name, pattern) is does


def test_patterns_are_written_in_one_or_several():
    assert read_patterns("a.*") == ("a.*",)
    assert read_patterns("a, b ,,c") == ("a", "b", "c")
    assert read_patterns(("a", "b")) == ("a", "b")
