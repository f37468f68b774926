from pathlib import Path

import pytest

from aimass.data.formats import FORMATS, read_file
from aimass.data.source import Raw

DOCS = Path(__file__).parents[3] / "docs" / "data.md"


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_reads_and_is_documented(name):
    assert callable(FORMATS.load(name)().read)
    assert f".{name}" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".txt", ".tsv", "", ".data"])
def test_a_file_without_a_known_suffix_is_read_as_csv(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    path.write_text("a,b\n1,2\n")
    raw = read_file(path)
    assert isinstance(raw, Raw)
    assert raw.table.to_pydict() == {"a": ["1"], "b": ["2"]}
