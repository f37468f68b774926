import os
from pathlib import Path

import pytest
import torch

from aimass.core import files
from aimass.core.errors import StorageError
from aimass.core.files import remove_folder, sweep_unfinished, whole_folder, write_json, write_tensors, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "a") as folder:
        (folder / "one").write_text("1")
        raise ZeroDivisionError
    assert names(tmp_path) == []
    with whole_folder(tmp_path / "a") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "a").exists()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "one").read_text() == "1"


def test_an_older_folder_is_replaced_whole_and_kept_when_the_new_one_fails(tmp_path):
    for text in ("old", "new"):
        with whole_folder(tmp_path / "a") as folder:
            (folder / text).write_text(text)
    assert names(tmp_path / "a") == ["new"]
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "a"):
        raise ZeroDivisionError
    assert names(tmp_path / "a") == ["new"]
    assert names(tmp_path) == ["a"]


def test_a_file_keeps_its_old_content_when_the_disk_refuses(tmp_path, monkeypatch):
    write_whole(tmp_path / "f", "old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="no space is left"):
        write_whole(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_json_refuses_what_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "f.json", {"a": float("nan")})
    assert names(tmp_path) == []


def test_what_a_kill_left_is_swept_and_the_rest_stays(tmp_path):
    with whole_folder(tmp_path / "a"):
        pass
    (tmp_path / ".unfinished-b-1234").mkdir()
    (tmp_path / ".unfinished-c-1234").write_text("half")
    sweep_unfinished(tmp_path)
    assert names(tmp_path) == ["a"]
    remove_folder(tmp_path / "a")
    assert names(tmp_path) == []


def test_tensors_that_do_not_fit_are_an_error_of_the_disk(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises((OSError, StorageError)):
        write_tensors(link / "x", {"a": torch.ones(10)})


def every_kind_of_tensor():
    kinds = [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int16,
        torch.uint8,
        torch.bool,
        torch.complex64,
    ]
    tensors = {f"of {kind}": (torch.arange(7) % 2).to(kind) for kind in kinds}
    one = {"scalar": torch.tensor(3.5), "empty": torch.empty(0, 4), "transposed": torch.arange(12.0).view(3, 4).T, "名前": torch.ones(1)}
    many = {f"layers.{number}": torch.full((number % 3,), number) for number in range(3000)}  # more pieces than one write takes
    return {**tensors, **one, **many, "parameter": torch.nn.Parameter(torch.randn(50, 50)), "view": torch.arange(100.0)[13:77]}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("part_bytes", [64 << 20, 1000])
def test_the_safetensors_library_reads_what_is_written(tmp_path, monkeypatch, cached, part_bytes):
    from safetensors.torch import load_file

    monkeypatch.setattr(files, "_PART_BYTES", part_bytes)
    made = every_kind_of_tensor()
    write_tensors(tmp_path / "t.safetensors", made, cached=cached)
    found = load_file(tmp_path / "t.safetensors")
    assert found.keys() == made.keys()
    assert all(found[name].dtype == made[name].dtype and torch.equal(found[name], made[name]) for name in made)
    assert all(found[name].data_ptr() % found[name].element_size() == 0 for name in made)


def test_a_file_without_tensors_is_one_too_and_a_type_that_no_file_has_is_named(tmp_path):
    from safetensors.torch import load_file

    write_tensors(tmp_path / "t.safetensors", {})
    assert load_file(tmp_path / "t.safetensors") == {}
    with pytest.raises(ValueError, match="a tensor of complex128 cannot be written"):
        write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1, dtype=torch.complex128)})


def test_tensors_that_are_cut_short_by_a_limit_are_an_error(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="larger than this process may write"), whole_folder(tmp_path / "a") as folder:
            write_tensors(folder / "t.safetensors", {"a": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_a_kill_while_a_folder_is_replaced_leaves_one_of_the_two(tmp_path):
    """A child replaces a folder again and again and is killed; whatever the moment, a whole one is there."""
    import signal
    import time

    with whole_folder(tmp_path / "a") as folder:
        (folder / "n").write_text("0")
    for _ in range(15):
        pid = os.fork()
        if pid == 0:
            for number in range(100_000):
                with whole_folder(tmp_path / "a") as folder:
                    (folder / "n").write_text(str(number))
        time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert (tmp_path / "a" / "n").read_text().isdigit()


def test_tensors_may_be_read_by_whoever_may_read_their_folder(tmp_path):
    write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(2)})
    assert (tmp_path / "t.safetensors").stat().st_mode & 0o777 == tmp_path.stat().st_mode & 0o666
