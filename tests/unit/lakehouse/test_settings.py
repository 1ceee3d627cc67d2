import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.errors import SettingsError
from lakehouse.settings import OLDER_NAMES, Settings, load_settings
from lakehouse.tables.catalog import NoTables, UnreadableCatalog, UnsupportedCatalog, open_catalog, spark_catalog_conf

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Read the settings as the command does: with these variables, and this text as weir.toml."""

    def load(toml: str = "", **environment: str) -> Settings:
        if toml:
            (tmp_path / "weir.toml").write_text(toml)
        for name, value in {"WEIR_HOME": str(tmp_path), **environment}.items():
            monkeypatch.setenv(name, value)
        return load_settings(dict(os.environ))

    return load


def test_nothing_set_keeps_everything_under_home_as_absolute_uris(load: Load, tmp_path: Path) -> None:
    found = load()
    assert found.home == tmp_path
    assert found.warehouse_uri == f"file://{tmp_path}/warehouse"
    assert found.checkpoint("silver.x") == f"file://{tmp_path}/checkpoints/silver.x"
    assert found.catalog_uri == f"sqlite:///{tmp_path}/catalog.db"
    assert Path(found.jars_path).is_absolute()


def test_relative_home_becomes_absolute_where_the_command_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({}).home == tmp_path / ".weir"
    assert load_settings({}).warehouse_uri == f"file://{tmp_path}/.weir/warehouse"


def test_uris_that_were_given_stay_as_they_are(load: Load) -> None:
    found = load(WEIR_CHECKPOINTS_URI="hdfs://name:8020/checkpoints/", WEIR_CATALOG_URI="postgresql://db/lh")
    assert found.checkpoint("q") == "hdfs://name:8020/checkpoints/q"
    assert found.catalog_uri == "postgresql://db/lh"


def test_environment_wins_over_the_file_and_the_file_over_the_default(load: Load) -> None:
    found = load("kafka_partitions = 3\nmin_partitions = 5\n", WEIR_KAFKA_PARTITIONS="4")
    assert (found.kafka_partitions, found.min_partitions, found.max_offsets_per_trigger) == (4, 5, 200_000)


@pytest.mark.parametrize(
    ("older", "value", "name", "expected"),
    [
        ("WAREHOUSE_URI", "hdfs://name:8020/w", "warehouse_uri", "hdfs://name:8020/w"),
        ("SPARK_MASTER", "yarn", "spark_master", "yarn"),
        ("ENABLE_YARN_DEFAULTS", "true", "enable_yarn_defaults", True),
        ("SPARK_DYN_MIN", "2", "spark_dyn_min", 2),
        ("SPARK_DYN_MAX", "9", "spark_dyn_max", 9),
        ("LOCATIONS_PATH", "/srv/places.jsonl", "locations_path", "/srv/places.jsonl"),
        ("POLLUTANTS_PATH", "/srv/pollutants.jsonl", "pollutants_path", "/srv/pollutants.jsonl"),
    ],
)
def test_older_name_works_too_and_yields_to_the_new_one(load: Load, older: str, value: str, name: str, expected: object) -> None:
    assert OLDER_NAMES[older] == name
    assert getattr(load(**{older: value}), name) == expected
    assert getattr(load(**{older: value, f"WEIR_{older}": str(getattr(Settings(), name))}), name) == getattr(Settings(), name)


def test_every_wrong_setting_is_named_at_once_with_what_is_allowed(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            'trigger_secnds = 1\naqi_rule = "us-epa-1999"\n',
            WEIR_KAFKA_PROT="9092",
            WEIR_KAFKA_PORT="70000",
            SPARK_DYN_MIN="few",
            WEIR_OPEN_METEO_URL="https://api/v1",
        )
    said = str(caught.value)
    assert said.startswith("6 wrong setting(s):")
    for part in (
        "WEIR_KAFKA_PROT: no such setting; did you mean WEIR_KAFKA_PORT?",
        "trigger_secnds (weir.toml): no such setting; did you mean WEIR_TRIGGER_SECONDS?",
        "aqi_rule: 'us-epa-1999' - Input should be 'us-epa-2024' or 'us-epa-2012'",
        "kafka_port: '70000' - Input should be less than or equal to 65535",
        "spark_dyn_min: 'few' - Input should be a valid integer",
        "open_meteo_url: 'https://api/v1' - String should match pattern",
        "settings are: home, warehouse_uri,",
    ):
        assert part in said


def test_file_that_is_no_toml_is_named_with_the_line(load: Load) -> None:
    with pytest.raises(SettingsError, match=r"weir\.toml: .*line 2"):
        load("kafka_port = 9092\nkafka_port 9093\n")


def test_secret_is_never_shown_neither_printed_nor_in_an_error(load: Load) -> None:
    found = load(WEIR_OPEN_METEO_API_KEY="s3cret")
    assert "s3cret" not in repr(found) + str(found) + found.model_dump_json()
    assert "**********" in repr(found)
    assert found.open_meteo_api_key is not None and found.open_meteo_api_key.get_secret_value() == "s3cret"


def test_secret_of_the_wrong_type_is_refused_without_being_shown(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load("open_meteo_api_key = 90210\n")
    assert "open_meteo_api_key: *** - Input should be a valid string" in str(caught.value)
    assert "90210" not in str(caught.value)


def test_settings_cannot_be_changed_once_read(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load(), "kafka_partitions", 3)  # noqa: B010 - what the type checker refuses anyway


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("sqlite:////srv/catalog.db", "jdbc"),
        ("postgresql://db/lh", "jdbc"),
        ("postgresql+psycopg2://db/lh", "jdbc"),
        ("https://catalog.example/v1", "rest"),
        ("glue:", "glue"),
        ("hdfs://name:8020/warehouse", "hadoop"),
    ],
)
def test_uri_names_the_kind_of_catalog(uri: str, kind: str) -> None:
    assert spark_catalog_conf(Settings(catalog_uri=uri))["spark.sql.catalog.lh.type"] == kind


def test_user_and_password_of_a_database_are_not_in_the_uri_that_java_gets() -> None:
    conf = spark_catalog_conf(Settings(catalog_uri="postgresql+psycopg2://weir:s3%40cret@db:5433/lh?sslmode=require"))
    ours = {name.removeprefix("spark.sql.catalog.lh."): value for name, value in conf.items()}
    assert ours["uri"] == "jdbc:postgresql://db:5433/lh?sslmode=require"
    assert (ours["jdbc.user"], ours["jdbc.password"]) == ("weir", "s3@cret")
    assert not [name for name in spark_catalog_conf(Settings(catalog_uri="postgresql://db/lh")) if "jdbc." in name and "schema" not in name]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("file:///srv/warehouse", "loses commits of concurrent writers"),
        ("mysql://db/lh", "unknown kind 'mysql'"),
        ("sqlite+pysqlite:////srv/catalog.db", "unknown kind"),
    ],
)
def test_catalog_that_is_unsafe_or_unknown_is_refused_with_the_choices(uri: str, why: str) -> None:
    with pytest.raises(UnsupportedCatalog, match=why) as caught:
        spark_catalog_conf(Settings(catalog_uri=uri))
    assert "Use sqlite:///FILE" in str(caught.value)
    with pytest.raises(UnsupportedCatalog):
        open_catalog(Settings(catalog_uri=uri))


def test_password_in_a_uri_is_not_shown() -> None:
    uri = "postgresql+psycopg2://weir:s3cret@db:5432/lh"
    for error in (UnreadableCatalog(uri, "refused"), NoTables(uri)):
        assert "postgresql+psycopg2://weir:***@db:5432/lh" in str(error)
    with pytest.raises(UnsupportedCatalog) as caught:
        spark_catalog_conf(Settings(catalog_uri="mysql://weir:s3cret@db/lh"))
    assert "'mysql://weir:***@db/lh'" in str(caught.value)
