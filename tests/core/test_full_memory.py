"""What is known when memory ran out."""

import os

import pytest

from aimass.core.full_memory import describe_memory, is_out_of_memory, num_oom_kills


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("0::/a/b", "sys/fs/cgroup/a/b/memory.events"),
        ("0::/a/b", "sys/fs/cgroup/memory.events"),  # a container sees its own group as the root
        ("5:cpu,cpuacct:/\n4:memory:/a\n0::/", "sys/fs/cgroup/memory/a/memory.oom_control"),
        ("4:memory:/a", "sys/fs/cgroup/memory/memory.oom_control"),
        ("", "proc/vmstat"),
    ],
)
def test_the_kills_of_the_nearest_group_are_counted(group, path, tmp_path):
    for name, text in (
        ("proc/self/cgroup", group),
        ("proc/vmstat", "oom_kill 9\n"),
        (path, "low 0\noom 5\noom_kill 3\noom_group_kill 1\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert num_oom_kills(tmp_path) == 3


def test_where_nobody_counts_there_are_none(tmp_path):
    assert num_oom_kills(tmp_path) == 0
    assert num_oom_kills() >= 0


def test_other_errors_are_not_about_memory():
    assert not is_out_of_memory(RuntimeError("the sizes do not fit"))
    assert not is_out_of_memory(FileNotFoundError())
    assert is_out_of_memory(OSError(12, os.strerror(12)))
    assert describe_memory().startswith("it had ")
