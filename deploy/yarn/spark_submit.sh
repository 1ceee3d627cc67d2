#!/usr/bin/env bash
# How is weir submitted by spark-submit itself, for who wants to see or change the command?
#
#     deploy/yarn/spark_submit.sh DOMAIN...           a stream, as `weir submit DOMAIN...`
#     deploy/yarn/spark_submit.sh -- VERB ARGUMENT... a batch verb
#     SPARK_SUBMIT_ARGS='--num-executors 4' deploy/yarn/spark_submit.sh ...
#
# Settings are weir's own (WEIR_..., weir.toml). spark-submit is SPARK_HOME's if that is set, else the one of pyspark in .venv.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
python=$here/.venv/bin/python
if [ $# = 0 ]; then
	sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
	exit 2
fi
prepared=$(mktemp -d)
trap 'rm -rf "$prepared"' EXIT
# It uploads the archives once, and writes spark.conf, weir.toml (for this user's eyes alone), container_main.py and arguments.
"$python" -P -m weir submit --prepare "$prepared" "$@"
mapfile -d '' -t arguments <"$prepared/arguments"
read -ra more <<<"${SPARK_SUBMIT_ARGS:-}"
SPARK_HOME=${SPARK_HOME:-$("$python" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).resolve().parent)')}
HADOOP_CONF_DIR=${HADOOP_CONF_DIR:-${WEIR_HADOOP_CONF_DIR:-}}
export SPARK_HOME HADOOP_CONF_DIR
"$SPARK_HOME/bin/spark-submit" --properties-file "$prepared/spark.conf" ${more[@]+"${more[@]}"} "$prepared/container_main.py" "${arguments[@]}"
