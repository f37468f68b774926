import pytest

from aimass.core.errors import UsageError
from aimass.service.settings import ServiceSettings, read_settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_live_in_the_home(folder, own_home):
    settings = read_settings({}, environment={"AIMASS_HOME": str(own_home)})
    assert settings.home == own_home
    assert settings.database == f"sqlite:///{own_home}/aimass.db"
    assert settings.store == str(own_home / "blobs")
    assert settings.port == 8321
    assert settings.max_upload == 10_000_000_000


def test_flags_stand_before_variables_and_those_before_the_file(folder):
    (folder / "aimass.toml").write_text('port = 1\nengines = 3\nengine_memory = "3GB"\n')
    settings = read_settings({"port": 3, "engines": None}, environment={"AIMASS_PORT": "2", "AIMASS_ENGINES": "4"})
    assert (settings.port, settings.engines, settings.engine_memory) == (3, 4, 3_000_000_000)


def test_the_file_of_the_home_counts_where_this_folder_has_none(folder, own_home):
    (own_home / "aimass.toml").write_text("port = 77\n")
    assert read_settings({"home": own_home}, environment={}).port == 77


@pytest.mark.parametrize(
    ("flags", "variables", "said"),
    [
        ({"port": 70000}, {}, r"port=70000: .*65535 \(from flags\)"),
        ({}, {"AIMASS_PORT": "many"}, r"port='many': .*\(from the AIMASS_\* variables\)"),
        ({"engine_memory": "lots"}, {}, "engine_memory='lots'"),
        ({"prot": 1}, {}, "no setting 'prot'; did you mean 'port'"),
        ({"cpus": 0}, {}, "cpus=0"),
    ],
)
def test_what_is_off_is_named_with_its_source(folder, flags, variables, said):
    with pytest.raises(UsageError, match=said):
        read_settings(flags, environment=variables)


def test_a_file_that_is_no_toml_is_named(folder):
    (folder / "aimass.toml").write_text("port 1\n")
    with pytest.raises(UsageError, match=r"aimass\.toml cannot be read"):
        read_settings({}, environment={})


def test_a_database_and_a_store_by_url():
    settings = ServiceSettings(database_url="postgresql://me@there/db", store_url="s3://bucket/place")
    assert (settings.database, settings.store) == ("postgresql://me@there/db", "s3://bucket/place")
