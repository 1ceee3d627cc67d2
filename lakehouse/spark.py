"""How is Spark set up? One session for every program; each setting with the reason it is there."""

import os
import re
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.machine.class_archive import archive_options
from lakehouse.machine.environment import adopt_environment, in_yarn_container, java_option, java_scratch, spark_scratch
from lakehouse.machine.fitness import check_machine
from lakehouse.machine.java import find_java
from lakehouse.machine.jvm_start import DriverNotStarted, why_not_started
from lakehouse.machine.yarn_check import check_yarn
from lakehouse.settings import Settings
from lakehouse.storage.paths import check_class_path, local_path
from lakehouse.tables.catalog import catalog_file, spark_catalog_conf

SHORT = "-XX:TieredStopAtLevel=1"
# With one compiler the JVM keeps 48 MB for compiled code, and Spark beside Iceberg fills that within minutes of work. Then threads die
# ("Out of space in CodeCache for adapters"), and Python waits without end for what they were about to send. With two compilers the JVM
# keeps 240 MB anyway. This reserves addresses; memory is taken only as code is compiled.
CODE_CACHE = "256m"
LOG4J = Path(__file__).parent.resolve() / "log4j2.properties"


# The settings of logs in a container of YARN, which `weir submit` sends there.
CONTAINER_LOG4J = "log4j2-container.properties"
CONTAINER_LOG_OPTION = f"-Dlog4j2.configurationFile={CONTAINER_LOG4J}"

# Avro believes what a message says of its own lengths: four damaged bytes ask for two gigabytes, and the JVM ends. A message of Kafka's
# is far shorter than this [bytes].
LONGEST_IN_AVRO = 64 << 20
AVRO_LIMITS = [f"-Dorg.apache.avro.limits.{kind}.maxLength={LONGEST_IN_AVRO}" for kind in ("string", "bytes")]
# A batch pass on a cluster: as many tasks as its data needs, and no more. A micro-batch has one or two, and a plan is not worth changing.
ADAPTIVE = {
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.adaptive.coalescePartitions.initialPartitionNum": "200",
    "spark.sql.adaptive.coalescePartitions.parallelismFirst": "false",
}
# Of every driver's JVM, wherever it runs.
DRIVER_OPTIONS = ("-XX:+UseParallelGC", f"-XX:ReservedCodeCacheSize={CODE_CACHE}", *AVRO_LIMITS)


class JarsMissing(LakehouseError, Fatal):
    """The locked jars are not there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"No jars in {folder}: run `make setup`, or point WEIR_JARS_PATH at the folder that holds them.")


class BadSparkConf(LakehouseError, Fatal):
    """The file of further settings of Spark cannot be read."""

    def __init__(self, file: str, problem: str) -> None:
        super().__init__(f"WEIR_SPARK_CONF_FILE {file}: {problem}. Expected lines of KEY=VALUE, such as spark.ui.port=4040.")


def read_spark_conf(settings: Settings) -> dict[str, str]:
    """Return the settings of Spark in `spark_conf_file`; empty without one.

    Raises:
        BadSparkConf: the file is not there, or a line of it is no setting.
    """
    if not settings.spark_conf_file:
        return {}
    try:
        lines = Path(settings.spark_conf_file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadSparkConf(settings.spark_conf_file, str(error)) from error
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        # Spark's own file has blanks or an equals sign between the two.
        key, *value = re.split(r"\s*=\s*|\s+", line.strip(), maxsplit=1)
        if not value or not key.startswith("spark."):
            raise BadSparkConf(settings.spark_conf_file, f"line {number} is {line.strip()!r}")
        found[key] = value[0]
    return found


def spark_conf(settings: Settings) -> dict[str, str]:
    """Return the whole configuration of a session, without what only the start of a JVM can set."""
    conf = {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.defaultCatalog": "lh",
        # All instants are UTC; a local zone would shift dates and keys.
        "spark.sql.session.timeZone": "UTC",
        # What the SQL of this repository means. They are Spark's defaults, said so that no other configuration can overrule them.
        "spark.sql.ansi.enabled": "true",
        "spark.sql.ansi.doubleQuotedIdentifiers": "false",
        "spark.sql.ansi.enforceReservedKeywords": "false",
        "spark.sql.caseSensitive": "false",
        "spark.sql.mapKeyDedupPolicy": "EXCEPTION",
        "spark.sql.parser.escapedStringLiterals": "false",
        "spark.sql.parser.quotedRegexColumnNames": "false",
        "spark.sql.storeAssignmentPolicy": "ANSI",
        "spark.sql.timestampType": "TIMESTAMP_LTZ",
        # A text of ours is no template: a name may hold `${`.
        "spark.sql.variable.substitute": "false",
        # A micro-batch is small: more tasks cost more than they save.
        "spark.sql.shuffle.partitions": "2",
        "spark.default.parallelism": "2",
        "spark.sql.adaptive.enabled": "false",
        # Compiling the generated code of a plan costs more than interpreting it over a micro-batch, and each micro-batch has a plan
        # with literals of its own: half the CPU time of a small one, and still a quarter less for 24,552 rows.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        # Every column function would send its call site to the JVM: a third of the time of a small micro-batch.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # Queries of one driver share its cores fairly: a backlog in one must not starve the others.
        "spark.scheduler.mode": "FAIR",
        # Stateless queries have nothing to do in a batch without data.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.minBatchesToRetain": "100",
        "spark.ui.showConsoleProgress": "false",
        # Hadoop's own local file system starts a `chmod` for every file it makes, and a `readlink` for every name it renames: on two
        # cores that was 75 processes a second, and most of a commit. This one asks Java instead; files and checksums are the same.
        "spark.hadoop.fs.file.impl": "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem",
        # HDFS: a file's close asks until its DataNode has reported the block, first after this long, then after twice as long each time. By
        # default it is 400 ms, which triples a micro-batch; with more repetitions the client is as patient as by default (16 s, 12 s).
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "2",
        "spark.hadoop.dfs.client.block.write.locateFollowingBlock.retries": "13",
        "spark.executor.extraJavaOptions": " ".join(AVRO_LIMITS),
    }
    if settings.is_on_yarn:
        # By default an executor logs each task, for months, into one file.
        conf["spark.executor.extraJavaOptions"] += f" {CONTAINER_LOG_OPTION}"
    if settings.spark_master.startswith("local"):
        conf |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
    conf |= dynamic_allocation(settings)
    if local_path(settings.checkpoints_uri) is not None:
        # Spark's choice goes past the file system named above. It renames over a file that is there only by one call more: on HDFS
        # that would matter, on one machine the lease keeps a second driver out either way.
        conf["spark.sql.streaming.checkpointFileManagerClass"] = (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        )
    return conf | spark_catalog_conf(settings)


def dynamic_allocation(settings: Settings) -> dict[str, str]:
    """Return the configuration of executors that come and go with the work; empty where it is not asked for."""
    if not settings.enable_yarn_defaults:
        return {}
    return {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(settings.spark_dyn_min),
        "spark.dynamicAllocation.maxExecutors": str(settings.spark_dyn_max),
    }


def jvm_conf(settings: Settings) -> dict[str, str]:
    """Return the configuration with which this machine starts the driver's JVM. On YARN, `deploy/yarn/submit.py` says it.

    Raises:
        JarsMissing: the locked jars are not there.
    """
    jars, own_options = driver_jars(settings), settings.spark_java_options.split()
    # The environment decides which Java starts, whatever the settings say: Spark's scripts read JAVA_HOME and PATH.
    archive = archive_options(jars, os.environ, own_options) if settings.cds_archive else []
    here = [f"-Dlog4j2.configurationFile={LOG4J.as_uri()}", java_option(f"-Djava.io.tmpdir={java_scratch(settings.home)}")]
    return {
        "spark.driver.memory": settings.spark_driver_memory,
        # A fixed order: the class-data archive of the JVM depends on it.
        "spark.driver.extraClassPath": ":".join(str(jar) for jar in jars),
        "spark.driver.extraJavaOptions": " ".join([*DRIVER_OPTIONS, *here, *archive, *own_options]),
        "spark.local.dir": str(spark_scratch()),
    }


def open_spark(settings: Settings, app_name: str, *, is_short: bool = False, is_batch: bool = False) -> SparkSession:
    """Start, or return, the session of this process.

    Args:
        settings: all of them.
        app_name: as Spark shows it.
        is_short: the JVM will live for a minute or two, and never earn its optimising compiler; `spark_java_options` say otherwise.
        is_batch: it passes over whole tables rather than over small micro-batches, so on a cluster plans adapt to what they read.

    Raises:
        NeedsYarn, NeedsSubmit: Spark may not start here.
        BadSparkConf: the file of further settings cannot be read.
        TooFewOpenFiles, NoTemporaryFolder, ClockWrong, WrongJava, JarsMissing: the machine is not fit; no JVM was started.
        DriverNotStarted: the JVM ended, or Spark refused its settings.
    """
    if is_short and not settings.spark_java_options:
        settings = settings.model_copy(update={"spark_java_options": SHORT})
    if (file := catalog_file(settings)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)  # SQLite makes no folder
    adopt_environment(settings.hadoop_conf_dir)
    more = read_spark_conf(settings)
    check_yarn(settings, in_yarn_container(os.environ), more)
    check_machine(settings)
    java = find_java(os.environ)
    os.environ["JAVA_HOME"] = str(java.home)  # Spark's scripts would take the first one, whatever its version
    if settings.spark_master.startswith("local"):
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # or Spark looks its host name up, which some machines cannot
    builder = SparkSession.builder.appName(app_name).master(settings.spark_master)
    conf = more | spark_conf(settings)
    if is_batch and not settings.spark_master.startswith("local"):
        conf |= ADAPTIVE
    if not in_yarn_container(os.environ):
        conf |= jvm_conf(settings)
    secrets = {key: conf.pop(key) for key in [key for key in conf if key.endswith(".password")]}
    for key, value in conf.items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:  # whatever PySpark and py4j make of a JVM that ends
        options = settings.spark_java_options
        raise DriverNotStarted(
            why_not_started(error, java, settings.spark_driver_memory, options.split()), settings.spark_driver_memory, options
        ) from error
    for key, value in secrets.items():
        session.conf.set(key, value)  # what the builder has stands on the JVM's command line, for whoever lists processes
    return session


def session_beside(spark: SparkSession) -> SparkSession:
    """Open a session as this one is now, for work beside it: what is set in one from then on is not set in the other."""
    # As Spark itself does for every micro-batch; `newSession` knows only what the application was started with.
    return SparkSession(spark.sparkContext, spark._jsparkSession.cloneSession())


def jvm_pid(spark: SparkSession) -> int:
    """Process id of the JVM that this session drives."""
    # Asked of Java itself: on YARN the JVM was there first, and PySpark knows no process of it.
    jvm: Any = spark._jvm
    return int(jvm.java.lang.ProcessHandle.current().pid())


def iceberg_table(spark: SparkSession, name: str) -> Any:  # noqa: ANN401 - the JVM's objects have no types
    """Load Iceberg's own object of a table, as it is now."""
    jvm: Any = spark._jvm
    return jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, name)


def driver_jars(settings: Settings) -> list[Path]:
    """List the jars that go before Spark's on the driver's class path, in a fixed order and by the paths of the files themselves.

    Raises:
        JarsMissing: there is none.
    """
    # Resolved, because the class-data archive holds the paths: by way of a link that has gone it would not fit.
    folder = (Path(settings.jars_path) / "spark").resolve()
    jars = sorted(folder.glob("*.jar"))
    if not jars:
        raise JarsMissing(folder)
    check_class_path(folder, "Set WEIR_JARS_PATH to another.")
    return jars


def java_list(held: Any) -> list[Any]:  # noqa: ANN401 - the JVM's objects
    """Return the items of a Java list. By index: its iterator ends in an exception, which costs ten milliseconds to bring over."""
    return [held.get(n) for n in range(held.size())]
