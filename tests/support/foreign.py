"""A shell and folders as other people have them: names with every sign, another Spark, another Hadoop, a proxy that is not there."""

from pathlib import Path

# Each sign that some library takes for something else, in one name: what opens it opens a name with a few of them.
EVERY_SIGN = "Mes données (2026) #1 50% %20 a&b+c=d? 'q\"x, [z] {y} $HOME ~ ;| `! @: \\ Tài liệu 数据 😀"


def foreign_shell(folder: Path, proxy: str = "http://127.0.0.1:9") -> dict[str, str]:
    """Make another Spark, its settings and another Hadoop's in a folder; give the variables that name them and a proxy."""
    spark, hadoop, packages = folder / "spark-2.4", folder / "hadoop", folder / "packages"
    for made in (spark / "bin", spark / "conf", hadoop, packages / "pyspark"):
        made.mkdir(parents=True)
    (spark / "bin" / "spark-submit").write_text("#!/bin/sh\necho another Spark >&2\nexit 9\n")
    (spark / "bin" / "spark-submit").chmod(0o755)
    (spark / "conf" / "spark-env.sh").write_text("echo another spark-env.sh >&2\nexit 9\n")
    defaults = {
        "spark.master": "spark://127.0.0.1:9",
        "spark.sql.ansi.doubleQuotedIdentifiers": "true",
        "spark.sql.ansi.enabled": "false",
        "spark.sql.caseSensitive": "true",
        "spark.sql.session.timeZone": "Asia/Tokyo",
        "spark.sql.storeAssignmentPolicy": "STRICT",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
    }
    (spark / "conf" / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in defaults.items()))
    (hadoop / "core-site.xml").write_text(
        "<configuration><property><name>fs.defaultFS</name><value>hdfs://127.0.0.1:9</value></property></configuration>"
    )
    (packages / "pyspark" / "__init__.py").write_text("raise ImportError('another pyspark')\n")
    return {
        "SPARK_HOME": str(spark),
        "SPARK_CONF_DIR": str(spark / "conf"),
        "SPARK_LOCAL_DIRS": str(folder / "elsewhere"),
        "PYSPARK_PYTHON": "/nonexistent/python",
        "PYSPARK_SUBMIT_ARGS": "--driver-memory 1k pyspark-shell",
        "HADOOP_CONF_DIR": str(hadoop),
        "PYTHONPATH": str(packages),
        "JAVA_TOOL_OPTIONS": "-XX:ThereIsNoSuchOption",
        **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy),
    }
