"""Which settings are there, what do they mean, and where do their values come from?

One typed model, read once by `weir.py` and handed down; nothing below reads the environment. A value comes from, in this
order: the environment (`WEIR_<NAME>`, and the seven older names below), `weir.toml` in the home folder, the default here.
"""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from lakehouse.broker.bootstrap import BadBootstrapError, plain
from lakehouse.domains.air_quality.contract import AqiRuleName
from lakehouse.domains.kaggle.contract import CountryProfile
from lakehouse.errors import SettingsError
from lakehouse.storage.paths import as_location, check_name_of_home, location_of

# Names without the prefix that operators of the seeds already have in their environments.
OLDER_NAMES = {
    "WAREHOUSE_URI": "warehouse_uri",
    "SPARK_MASTER": "spark_master",
    "ENABLE_YARN_DEFAULTS": "enable_yarn_defaults",
    "SPARK_DYN_MIN": "spark_dyn_min",
    "SPARK_DYN_MAX": "spark_dyn_max",
    "LOCATIONS_PATH": "locations_path",
    "POLLUTANTS_PATH": "pollutants_path",
}


def _older(name: str) -> AliasChoices:
    """Let a setting be given by its own name, `WEIR_<NAME>`, or the older name without the prefix."""
    return AliasChoices(name, f"WEIR_{name.upper()}", name.upper())


def _bootstrap(text: str) -> str:
    """Let a bootstrap list through that can be read."""
    try:
        return text and text.strip() and plain(text) and text
    except BadBootstrapError as error:
        raise ValueError(error.says) from error


class Settings(BaseSettings):
    """All settings of weir. Spans carry their unit in the name; an address is host:port."""

    model_config = SettingsConfigDict(env_prefix="WEIR_", extra="forbid", frozen=True, populate_by_name=True)

    home: Path = Field(
        Path(".weir"), description="folder that holds everything weir keeps on this machine, unless a URI below says otherwise"
    )

    warehouse_uri: str = Field(
        "",
        validation_alias=_older("warehouse_uri"),
        description="folder of the tables: a path, file:// with a path as it is (nothing escaped), or hdfs: (default: HOME/warehouse)",
    )
    checkpoints_uri: str = Field(
        "", description="folder with one checkpoint per query, given as warehouse_uri is (default: HOME/checkpoints)"
    )
    state_uri: str = Field(
        "",
        description="folder of what a driver must find again wherever it runs (rejects counted, requests to go on, query states), given as "
        "warehouse_uri is (default: HOME/state)",
    )
    catalog_uri: str = Field(
        "",
        description="URI of the Iceberg catalog: sqlite:///FILE with a path as it is, nothing escaped (default: HOME/catalog.db), "
        "postgresql://…, http(s)://… for REST, glue:, "
        "or hdfs://… for a hadoop catalog",
    )
    locations_path: str = Field(
        "",
        validation_alias=_older("locations_path"),
        description="file of places, one JSON object a line (default: HOME/locations.jsonl, else the shipped one)",
    )
    pollutants_path: str = Field(
        "", validation_alias=_older("pollutants_path"), description="file of pollutants, one JSON object a line (default: the shipped one)"
    )

    kafka_bootstrap: Annotated[str, AfterValidator(_bootstrap)] = Field(
        "", description="addresses of Kafka, HOST:PORT with commas between them (default: the embedded broker that `weir up` started)"
    )
    kafka_port: int | None = Field(None, ge=1, le=65535, description="port of the embedded broker on the loopback (default: a free one)")
    kafka_partitions: int = Field(2, ge=1, description="partitions of a topic that weir creates")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="port of the one metrics page on the loopback (default: a free one)")
    prometheus_port: int | None = Field(
        None, ge=1, le=65535, description="port of the Prometheus of `weir up --with-prometheus` on the loopback (default: a free one)"
    )
    alertmanager_port: int | None = Field(
        None, ge=1, le=65535, description="port of its Alertmanager on the loopback (default: a free one)"
    )
    alertmanager_config: str = Field(
        "", description="configuration of that Alertmanager: whom alerts are sent to (default: nobody, its page shows them)"
    )
    pushgateway: str = Field("", description="host:port of a Pushgateway to which batch programs report how they ended (default: none)")
    metrics_textfile: str = Field(
        "", description="folder of node_exporter's textfile collector, in which batch programs leave the same (default: none)"
    )
    objectives_path: str = Field("", description="file of freshness objectives (default: monitoring/objectives.toml)")
    alert_fresh_hours: float = Field(
        48, gt=0, description="hours after which the newest change of a domain's bronze, silver or gold raises an alert, see `weir check`"
    )
    metrics_cities: int = Field(
        100, ge=0, description="most cities of a table that the metrics page tells of one by one: those whose newest hour is oldest"
    )

    hadoop_conf_dir: str = Field(
        "", description="folder with core-site.xml and the other files of a Hadoop cluster; HADOOP_CONF_DIR of the shell has no say"
    )
    spark_master: str = Field("local[2]", validation_alias=_older("spark_master"), description="Spark master: local[N], yarn, spark://…")
    spark_conf_file: str = Field(
        "", description="file with more settings of Spark, KEY=VALUE lines as in spark-defaults.conf; what weir sets itself stays"
    )
    require_yarn: bool = Field(False, description="refuse to start Spark elsewhere than on YARN; --no-yarn-check of a verb overrules it")
    yarn_queue: str = Field(
        "default", description="YARN's queue of what `weir submit` submits, which `weir doctor` and the metrics page watch"
    )
    yarn_java_home: str = Field("", description="folder of Java 17 or 21 on the nodes, where the NodeManager's own JAVA_HOME is another")
    kerberos_principal: str = Field("", description="principal with which an application on YARN renews its access, with kerberos_keytab")
    kerberos_keytab: str = Field("", description="file of this machine with the key of that principal; Spark sends it to the application")
    spark_driver_memory: str = Field("2g", pattern=r"^\d+[mg]$", description="heap of the Spark driver")
    enable_yarn_defaults: bool = Field(
        False, validation_alias=_older("enable_yarn_defaults"), description="add dynamic allocation and the other settings that suit YARN"
    )
    spark_dyn_min: int = Field(1, ge=0, validation_alias=_older("spark_dyn_min"), description="least executors under dynamic allocation")
    spark_dyn_max: int = Field(50, ge=1, validation_alias=_older("spark_dyn_max"), description="most executors under dynamic allocation")

    jars_path: str = Field("", description="folder with the locked jars, one folder per class path (default: .jars beside the code)")

    trigger_seconds: float = Field(
        0.8,
        ge=0,
        description="how often bronze takes new messages; 0 starts the next micro-batch at once. Each is a commit and some 0.3 s of a"
        " core, which silver and gold lack meanwhile",
    )
    idle_trigger_seconds: float = Field(
        2.0,
        ge=0,
        description="the same while no message has come for 10 s and weir cannot wait for one at the broker; WEIR_TRIGGER_SECONDS where"
        " that is more, or is 0",
    )
    silver_trigger_seconds: float = Field(
        1.0,
        ge=0.1,
        description="how often silver and gold look for rows of bronze that another program appended, every 10 s once nothing came for"
        " 10 s; what their own driver appends they take at once",
    )
    max_offsets_per_trigger: int = Field(
        200_000, ge=1, description="most messages of one micro-batch: bounds memory and what a replay repeats"
    )
    engine: Literal["auto", "spark", "duckdb"] = Field(
        "auto", description="what computes micro-batches and chunks; auto: DuckDB for what fits in memory, else Spark"
    )
    duckdb_memory: str = Field(
        "1GB", pattern=r"^[0-9]+(MB|GB)$", description="memory that DuckDB may take in a driver before it writes to a temporary folder"
    )
    min_partitions: int = Field(2, ge=1, description="least Spark tasks that read one micro-batch from Kafka")

    delete_format: Literal["files", "vectors"] = Field(
        "files",
        description="how silver and gold say which rows are gone: files (Iceberg format 2, which every engine reads) or vectors (format 3, "
        "which ClickHouse and Daft do not read); `weir maintain` moves existing tables",
    )
    compact_after: int = Field(
        32, ge=0, description="micro-batches into a table after which its small files are joined; 0 leaves that to maintenance"
    )
    maintain_hours: float = Field(
        1, ge=0, description="hours between two rounds of `weir maintain` that `weir up` starts beside the stream; 0 for none"
    )
    snapshot_hours: float = Field(
        6, gt=0, description="hours for which maintenance keeps every snapshot: longer than the longest query that reads the tables"
    )
    tag_days: int = Field(30, ge=0, description="days for which the daily tags of silver and gold, day-YYYY-MM-DD, are kept; 0 for none")
    bronze_days: int = Field(
        0, ge=0, description="days of arrival that bronze keeps, today among them; older ones go once silver holds them; 0 keeps all"
    )
    topic_days: int = Field(
        0, ge=0, description="days for which Kafka keeps messages; older ones go once bronze and silver hold them; 0 leaves them alone"
    )
    spark_java_options: str = Field("", description="more options of the driver's JVM, such as -XX:TieredStopAtLevel=1 for a short run")
    cds_archive: bool = Field(
        True,
        description="start the driver's JVM from the archive of its classes, where `make cds` has made one",
    )
    reject_limit_percent: float = Field(
        10, ge=0, le=100, description="rejects among a domain's last rows, in percent, above which silver and gold stop (100: never)"
    )
    reject_window_rows: int = Field(1000, ge=1, description="how many last rows that share is of")
    reject_least_rows: int = Field(100, ge=1, description="rows from which on it is judged")

    open_meteo_url: str = Field(
        "https://air-quality-api.open-meteo.com",
        pattern=r"^https?://[^/]+$",
        description="scheme, host and port of the API; /v1/air-quality is appended",
    )
    open_meteo_api_key: SecretStr | None = Field(None, description="key of a commercial plan; sent as apikey")
    poll_minutes: float = Field(15, gt=0, description="minutes between two polls of the live API")
    poll_past_days: int = Field(3, ge=1, le=90, description="days before today that every poll asks for again: the source revises them")

    budget_path: str = Field(
        "",
        description="file in which all programs of the machine count their calls of the API, whatever their home "
        "(default: weir/budget.db in $XDG_STATE_HOME, else in ~/.local/state)",
    )
    budget_per_minute: int | None = Field(
        None, ge=0, description="weighted calls of the API a minute, 0 for no limit (default: 600, none for an API on the loopback)"
    )
    budget_per_hour: int | None = Field(
        None, ge=0, description="weighted calls of the API an hour, 0 for no limit (default: 5000, none for an API on the loopback)"
    )
    budget_per_day: int | None = Field(
        None, ge=0, description="weighted calls of the API a UTC day, 0 for no limit (default: 10000, none for an API on the loopback)"
    )

    kaggle_url: str = Field(
        "https://api.kaggle.com",
        pattern=r"^https?://[^/]+$",
        description="scheme, host and port of Kaggle's API, of which the dataset list is polled; one on the loopback gets no credentials",
    )
    kaggle_list_order: Literal["hottest", "votes", "updated", "active", "published"] = Field(
        "hottest", description="order in which Kaggle lists datasets; it matters where the list shows only the first of them"
    )
    kaggle_calls_per_minute: int | None = Field(
        None, ge=0, description="pages of Kaggle's dataset list a minute, 0 for no limit (default: 60, none for an API on the loopback)"
    )
    kaggle_dataset: str = Field("kaggle/meta-kaggle", pattern=r"^[\w-]+/[\w-]+$", description="what --download of a Kaggle dump downloads")
    dump_member_gib: float = Field(
        64, gt=0, description="largest size in GiB of a member of a zip that holds a dump, and of a file unpacked by gzip"
    )
    dump_total_gib: float = Field(64, gt=0, description="largest size in GiB, extracted, of all members of such a zip that are needed")
    dump_ratio: float = Field(
        200, gt=0, description="how many times a member of such a zip, or a file packed by gzip, may grow when it is extracted"
    )
    dump_gone_limit_percent: float = Field(
        50, gt=0, le=100, description="share of a table's rows above which a dump without them is taken for cut and not published"
    )

    aqi_rule: AqiRuleName = Field("us-epa-2024", description="which edition of the US EPA's index gold is computed by")
    episode_threshold: int = Field(151, ge=1, description="an hour whose AQI is at least this belongs to an episode")
    episode_hours: int = Field(4, ge=1, description="least length of an episode in consecutive hours")

    kaggle_country: CountryProfile = Field(
        "names",
        description="which country of a user is accepted: names (a name or code, or none) or strict (two letters; none is a reject)",
    )

    log_format: Literal["console", "json"] = Field("console", description="how a log line is written")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is written")
    failpoint: str = Field(
        "",
        description="for fault tests only: kill -9 the process at a named point, NAME or NAME:N for the N-th time it is reached; or hold it"
        " there while a file exists, NAME@FILE",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before the file, and the file before the defaults."""
        home = Path(init_settings().get("home") or os.environ.get("WEIR_HOME") or ".weir")
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=home / "weir.toml"))

    def model_post_init(self, _: Any) -> None:  # noqa: ANN401 - pydantic's signature
        """Derive what was not given from the home folder, as absolute URIs: Spark's and Kafka's folders differ from ours."""
        home = self.home.expanduser().resolve()
        derived = {
            "home": home,
            "warehouse_uri": as_location(self.warehouse_uri) or location_of(home / "warehouse"),
            "checkpoints_uri": as_location(self.checkpoints_uri) or location_of(home / "checkpoints"),
            "state_uri": as_location(self.state_uri) or location_of(home / "state"),
            "budget_path": self.budget_path or str(_user_state(home) / "budget.db"),
            "jars_path": self.jars_path or str(Path(__file__).resolve().parents[1] / ".jars"),
            "catalog_uri": self.catalog_uri or f"sqlite:///{home / 'catalog.db'}",
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def is_on_yarn(self) -> bool:
        """Whether streams and batch programs are applications on YARN."""
        return self.spark_master == "yarn"

    def checkpoint(self, query: str) -> str:
        """URI of the checkpoint of one query."""
        return f"{self.checkpoints_uri.rstrip('/')}/{query}"


def _user_state(home: Path) -> Path:
    """The user's folder for what is no home's own: limits by the machine's address must not be counted home by home."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():  # the standard says to ignore a relative one
        return given / "weir"
    try:
        return Path.home() / ".local" / "state" / "weir"
    except RuntimeError:  # a user without a home folder, as in a container
        return home / "state"


# A wrong value is shown to whoever typed it, but not one of these.
SECRETS = frozenset(name for name, field in Settings.model_fields.items() if SecretStr in (field.annotation, *get_args(field.annotation)))


def load_settings(environment: dict[str, str]) -> Settings:
    """Read all settings, or name every wrong one at once.

    Args:
        environment: the process's environment; only looked at for names that start with WEIR_ but mean nothing.

    Raises:
        SettingsError: for unknown names (with the nearest known one) and wrong values (with what is allowed), all of them.
        UnusablePath: no program could be given the name of the home.
    """
    problems = [
        f"{name}: no such setting{_nearest(name)}"
        for name in sorted(environment)
        if name.startswith("WEIR_") and name.removeprefix("WEIR_").lower() not in Settings.model_fields
    ]
    settings: Settings | None = None
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_problem(details) for details in error.errors()]
    except ValueError as error:  # weir.toml is not TOML
        problems.append(f"weir.toml: {error}")
    if problems or settings is None:
        allowed = ", ".join(Settings.model_fields)
        raise SettingsError(
            "\n  ".join([f"{len(problems)} wrong setting(s):", *problems, f"settings are: {allowed} (in weir.toml), or WEIR_<NAME>"])
        )
    check_name_of_home(settings.home)
    return settings


def _nearest(name: str) -> str:
    known = difflib.get_close_matches(name.removeprefix("WEIR_").lower(), Settings.model_fields, n=1)
    return f"; did you mean WEIR_{known[0].upper()}?" if known else ""


def _problem(details: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    name = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"{name} (weir.toml): no such setting{_nearest(name)}"
    given = "***" if name.lower().removeprefix("weir_") in SECRETS else repr(details["input"])
    return f"{name}: {given} - {details['msg']}"
