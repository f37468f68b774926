import subprocess
import sys

import pytest

from aimass.core.errors import UsageError
from aimass.core.plugins import Kind

STRATEGIES = Kind(name="strategy", package="aimass.training.strategies", group="aimass.strategies")


def test_names_are_the_files_and_aliases_lead_to_them():
    assert {"async_sgd", "single"} <= set(STRATEGIES.names())
    assert STRATEGIES.canonical("AP-SGD") == "async_sgd"
    assert STRATEGIES.canonical("异步并行SGD") == "async_sgd"
    with pytest.raises(UsageError, match=r"there is no strategy 'async_sdg'; did you mean 'async_sgd'\? Known: allreduce, async_sgd, "):
        STRATEGIES.load("async_sdg")
    with pytest.raises(UsageError, match=r"there is no strategy '参数服务器X'; did you mean '参数服务器'\? Known: allreduce, async_sgd, "):
        STRATEGIES.canonical("参数服务器X")


def test_looking_for_a_name_imports_no_other_plugin():
    program = (
        "import sys; from aimass.training.strategy import STRATEGIES; STRATEGIES.names(); STRATEGIES.aliases(); STRATEGIES.load('single');"
        "loaded = [name for name in sys.modules if name.startswith('aimass.training.strategies.')]; print(loaded, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['aimass.training.strategies.single'] False"


def test_no_two_plugins_share_an_alias():
    aliases = [alias for alias in STRATEGIES.aliases() if alias in STRATEGIES.names()]
    assert aliases == []
