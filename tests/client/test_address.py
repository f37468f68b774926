import json
import stat

import pytest

from aimass.client.address import Address, find_address, keep_own_login, login_path, plain_url, read_login, save_login
from aimass.core.errors import DataError, Unauthorized, UsageError

HERE, THERE = "http://127.0.0.1:8321", "https://mass.example.org"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("AIMASS_URL", "AIMASS_API_KEY", "AIMASS_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def test_arguments_come_before_variables_and_those_before_the_login(monkeypatch):
    save_login(Address(url=HERE, key="am_0_login"))
    assert find_address() == Address(url=HERE, key="am_0_login")
    monkeypatch.setenv("AIMASS_API_KEY", "am_0_variable")
    assert find_address().key == "am_0_variable"
    monkeypatch.setenv("AIMASS_URL", THERE)
    monkeypatch.setenv("AIMASS_PROJECT", "shop")
    assert find_address() == Address(url=THERE, key="am_0_variable", project="shop")
    assert find_address(HERE, "am_0_given", "till") == Address(url=HERE, key="am_0_given", project="till")


def test_a_key_goes_to_no_other_service(monkeypatch):
    save_login(Address(url=HERE, key="am_0_login"))
    assert find_address(f"{HERE}/").key == "am_0_login"
    with pytest.raises(Unauthorized, match=f"there is no key for {THERE}; set AIMASS_API_KEY, or log in with `aimass login"):
        find_address(THERE)
    monkeypatch.setenv("AIMASS_URL", THERE)
    with pytest.raises(Unauthorized):
        find_address()


def test_nobody_is_known():
    with pytest.raises(UsageError, match="no service is known here; start one with `aimass up`"):
        find_address()
    with pytest.raises(Unauthorized, match="characters that no key has"):
        find_address(HERE, "am_0_x\n")


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://h:port", "http://user:secret@host", "http://host?key=1", "not an address"]
)
def test_what_is_no_address(url):
    with pytest.raises(UsageError) as caught:
        plain_url(url)
    assert "secret" not in str(caught.value)


def test_the_login_is_for_its_owner_alone():
    path = save_login(Address(url=HERE, key="am_0_login"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert read_login() == Address(url=HERE, key="am_0_login")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "am_0_login" not in repr(read_login())


@pytest.mark.parametrize("content", ["", "[]", '{"url": 3, "key": "x"}', '{"url": "ftp://x", "key": "x"}', "\xff"])
def test_a_login_that_is_none_says_so(own_home, content):
    login_path().write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match="holds no login"):
        find_address()


def test_a_home_is_logged_in_to_its_own_service(own_home):
    assert "is also in" in keep_own_login(own_home, HERE, "am_0_first")
    assert read_login() == Address(url=HERE, key="am_0_first")
    assert keep_own_login(own_home, HERE, None) is None
    assert "at this address now" in keep_own_login(own_home, "http://127.0.0.1:9", None)
    assert read_login() == Address(url="http://127.0.0.1:9", key="am_0_first")


def test_a_login_elsewhere_is_kept(own_home):
    save_login(Address(url=THERE, key="am_0_there"))
    assert f"logged in to {THERE}, and stay so" in keep_own_login(own_home, HERE, "am_0_first")
    assert json.loads(login_path().read_text())["key"] == "am_0_there"


def test_no_proxy_stands_before_this_machine():
    assert [Address(url=url, key="k").is_here for url in (HERE, "http://localhost:1", "http://[::1]:1", THERE)] == [True, True, True, False]
