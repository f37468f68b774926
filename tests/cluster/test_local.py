"""Workers from the fork server: they start, speak, die, and never outlive their driver."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import cloudpickle
import psutil
import pytest
from processes import is_running

from aimass.cluster import fork_client, local
from aimass.cluster.local import LocalCluster
from aimass.core.errors import TrainingError

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def cluster():
    made = LocalCluster()
    yield made
    made.close()


def ended(cluster, process, timeout_s=60):
    wait_until(lambda: any(gone is process for gone in cluster.poll(0.1)), timeout_s)
    return process


def test_a_worker_gets_its_payload_descriptors_and_a_log(cluster, tmp_path):
    def entry(context):
        import json

        print("hello from", context.name)
        os.write(context.descriptors[0], b"shared")
        context.connection.send_bytes(json.dumps({"payload": context.payload, "threads": torch_threads()}).encode())

    def torch_threads():
        import torch

        return torch.get_num_threads()

    descriptor = os.memfd_create("test")
    process = cluster.start("worker 3", entry, {"a": [1, 2]}, [descriptor], tmp_path / "out.log")
    ended(cluster, process)
    assert process.exit_status == 0
    assert cluster.messages(process) == [{"payload": {"a": [1, 2]}, "threads": 1}]
    assert os.pread(descriptor, 10, 0) == b"shared"
    assert "hello from worker 3" in (tmp_path / "out.log").read_text()
    os.close(descriptor)


def test_a_worker_that_raises_says_why_and_leaves_a_trace(cluster, tmp_path):
    def entry(context):
        raise ValueError("the value was off")

    process = ended(cluster, cluster.start("worker 0", entry, None, [], tmp_path / "out.log"))
    assert process.exit_status == 1
    assert cluster.messages(process) == [{"failed": "ValueError: the value was off"}]
    assert "Traceback" in (tmp_path / "out.log").read_text()


def sleep_for_ever(context):
    while True:
        time.sleep(1)


@pytest.mark.parametrize("error", [EOFError, BrokenPipeError, ConnectionResetError])
def test_a_file_or_connection_of_the_work_that_ends_is_not_taken_for_the_drivers(error, cluster, tmp_path):
    def entry(context):
        raise error("it ended early")

    process = ended(cluster, cluster.start("worker 0", entry, None, [], tmp_path / "0.log"))
    assert cluster.messages(process) == [{"failed": f"{error.__name__}: it ended early"}]


def test_a_killed_worker_is_reported_with_its_signal(cluster, tmp_path):
    process = cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    wait_until(lambda: cluster.poll(0.05) == [] and process.pid)
    cluster.kill(process)
    assert ended(cluster, process).describe_exit() == "killed by SIGKILL"


def test_when_the_fork_server_dies_its_workers_die_and_the_next_start_has_a_new_server(cluster, tmp_path):
    first = cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    wait_until(lambda: cluster.poll(0.05) == [] and first.pid)
    server = psutil.Process(first.pid).parent()
    server.send_signal(signal.SIGKILL)
    assert ended(cluster, first).exit_status == -signal.SIGKILL
    wait_until(lambda: not is_running(first.pid))
    second = cluster.start("worker 0", lambda context: None, None, [], tmp_path / "out.log")
    assert ended(cluster, second).exit_status == 0


def test_a_stopped_server_keeps_nobody_waiting_whatever_it_was_asked_for(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_STOPPED_S", 0.3)
    first = cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    wait_until(lambda: cluster.poll(0.05) == [] and first.pid)
    server = psutil.Process(first.pid).parent()
    server.suspend()
    second = cluster.start("worker 1", sleep_for_ever, b"x" * 10_000_000, [], tmp_path / "out.log")  # more than any pipe takes
    assert ended(cluster, second).exit_status == -signal.SIGKILL
    assert first.exit_status == -signal.SIGKILL
    assert not is_running(server.pid)
    third = cluster.start("worker 1", lambda context: None, None, [], tmp_path / "out.log")
    assert ended(cluster, third).exit_status == 0


def test_a_stopped_server_does_not_hide_a_death(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_STOPPED_S", 0.3)
    process = cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    wait_until(lambda: cluster.poll(0.05) == [] and process.pid)
    psutil.Process(process.pid).parent().suspend()
    os.kill(process.pid, signal.SIGKILL)
    assert ended(cluster, process).exit_status == -signal.SIGKILL


def test_a_stopped_server_that_nobody_needs_is_left_alone_and_ended_with_the_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_STOPPED_S", 0.3)
    cluster = LocalCluster()
    process = cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    wait_until(lambda: cluster.poll(0.05) == [] and process.pid)
    server = psutil.Process(process.pid).parent()
    server.suspend()
    for _ in range(20):
        assert cluster.poll(0.02) == []
    cluster.close()
    wait_until(lambda: not is_running(server.pid) and not is_running(process.pid))


def test_a_stopped_worker_that_has_not_taken_its_orders_keeps_nobody_waiting(cluster, tmp_path):
    process = cluster.start("worker 0", sleep_for_ever, b"x" * 50_000_000, [], tmp_path / "out.log")
    wait_until(lambda: cluster.hear() or process.pid)
    os.kill(process.pid, signal.SIGSTOP)
    assert cluster.poll(0.05) == []
    assert process.connection.has_unsent
    cluster.kill(process)
    assert ended(cluster, process).exit_status == -signal.SIGKILL


def test_a_worker_that_was_killed_before_it_ran_never_does(cluster, tmp_path):
    process = cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    cluster.kill(process)
    assert ended(cluster, process).exit_status == -signal.SIGKILL


def test_a_system_that_starts_no_process_is_reported_with_its_words(tmp_path, monkeypatch):
    monkeypatch.setattr(fork_client, "_idle", [])  # a server of our own
    cluster = LocalCluster(["cluster.no_forks"])
    process = ended(cluster, cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log"))
    assert process.describe_exit() == "not started (Resource temporarily unavailable)"
    cluster.close()
    for server in fork_client._idle:
        server.close()


def test_a_server_that_ends_again_and_again_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(fork_client, "_idle", [])
    cluster = LocalCluster(["no_such_module_at_all"])
    cluster.start("worker 0", sleep_for_ever, None, [], tmp_path / "out.log")
    with pytest.raises(TrainingError, match="3 processes that should start workers ended"):
        wait_until(lambda: cluster.poll(0.1))
    cluster.close()


def test_a_large_payload_reaches_the_worker(cluster, tmp_path):
    def entry(context):
        os._exit(0 if len(context.payload) == 50_000_000 else 1)

    assert ended(cluster, cluster.start("worker 0", entry, b"x" * 50_000_000, [], tmp_path / "out.log")).exit_status == 0


def test_a_wake_ends_a_wait_at_once(cluster):
    cluster.poll(0)
    cluster.wake()
    assert cluster.poll(30) == []


def test_closing_ends_every_worker_and_keeps_a_warm_server_for_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_CLOSE_S", 120.0)
    cluster = LocalCluster()
    processes = [cluster.start(f"worker {i}", sleep_for_ever, None, [], tmp_path / "out.log") for i in range(3)]
    wait_until(lambda: cluster.poll(0.05) == [] and all(process.pid for process in processes))
    server = psutil.Process(processes[0].pid).ppid()
    cluster.close()
    assert not any(is_running(process.pid) for process in processes)
    again = LocalCluster()
    process = again.start("worker 0", lambda context: None, None, [], tmp_path / "out.log")
    wait_until(lambda: again.poll(0.05) or process.pid)
    assert again._server.pid == server
    again.close()


DRIVER = """
import sys, time
from pathlib import Path
from aimass.cluster.local import LocalCluster

def sleep_for_ever(context):
    while True:
        time.sleep(1)

cluster = LocalCluster()
workers = [cluster.start(f"worker {i}", sleep_for_ever, None, [], Path(sys.argv[1]) / "log") for i in range(2)]
while not all(worker.pid for worker in workers):
    cluster.poll(0.05)
print(*[worker.pid for worker in workers], cluster._server.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_fork_server_do_not_outlive_their_driver(how, tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    assert len(pids) == 3
    driver.send_signal(how)
    driver.wait(120)
    driver.stdout.close()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_stopped_workers_do_not_outlive_their_driver_either(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in driver.stdout.readline().split()]
    assert len(pids) == 3
    os.kill(pids[0], signal.SIGSTOP)
    driver.kill()
    driver.wait(120)
    driver.stdout.close()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_a_fork_of_the_driver_does_not_keep_the_server_alive():
    fork_client.warm()
    server = fork_client._idle[0]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not fork_client._idle else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert server._process.poll() is None


def test_no_shared_memory_has_a_name():
    from aimass.core.memory import SharedMemory

    memory = SharedMemory.create(1 << 20)
    assert os.fstat(memory.descriptor).st_nlink == 0
    memory.close()


def test_more_than_a_thousand_open_files_confuse_nobody(cluster, tmp_path):
    """A driver with more than a thousand open files can still watch its workers."""
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1300:
        pytest.skip("this machine allows fewer than 1300 open files")
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert ended(cluster, cluster.start("worker 0", lambda context: None, None, [], tmp_path / "out.log")).exit_status == 0
        other = LocalCluster()
        assert ended(other, other.start("worker 0", lambda context: None, None, [], tmp_path / "out.log")).exit_status == 0
        other.close()
    finally:
        for descriptor in many:
            os.close(descriptor)
