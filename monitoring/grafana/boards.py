"""Which dashboards are there, and what is on each? `python -m monitoring.grafana.build` writes them as Grafana reads them."""

from lakehouse.domain_names import DOMAINS
from monitoring.grafana.panels import GREEN, RED, YELLOW, Board, Panel, Query, Row, Variable
from monitoring.objectives import LATE_SECONDS

LATE = ((None, GREEN), (LATE_SECONDS, YELLOW), (60, RED))
DOWN = ((None, RED), (1, GREEN))
BAD = ((None, GREEN), (1, RED))
FIRING = 'ALERTS{alertstate="firing", severity="%s"}'


def _domain_board(domain: str) -> Board:
    """Return the dashboard of a domain: its stages from the source to gold."""
    mine = f'domain="{domain}"'
    # Of a domain the queries are those that say so by their objective's domain; names of queries hold tables, so both are listed by lag.
    return Board(
        f"weir-domain-{domain.replace('_', '-')}",
        f"weir · {domain}",
        f"Is {domain} fresh, and where is it late? Each stage from the source to gold.",
        (
            Row(
                "Is it fresh?",
                (
                    Panel(
                        "Late at",
                        "1 for the stage that is late; nothing is late while all are 0.",
                        "none",
                        (Query(f"weir_late_stage{{{mine}}}", "{{stage}}"),),
                        steps=BAD,
                        alert="StageLate",
                    ),
                    Panel(
                        "Age against objective",
                        "The age that each objective is about, divided by its bound: above 1 it is missed.",
                        "percentunit",
                        (Query(f"weir_objective_value_seconds{{{mine}}} / weir_objective_bound_seconds{{{mine}}}", "{{objective}}"),),
                        steps=((None, GREEN), (0.8, YELLOW), (1, RED)),
                        alert="FreshnessBurnsFast",
                    ),
                ),
            ),
            Row(
                "What is unusual?",
                (
                    Panel(
                        "Judged by weir check",
                        "What the last `weir check` or maintenance found, divided by its bound: above 1 it is unusual.",
                        "percentunit",
                        (Query(f"weir_alert_value{{{mine}}} / (weir_alert_bound{{{mine}}} > 0)", "{{alert}} {{name}}", "event"),),
                        steps=((None, GREEN), (1, RED)),
                        alert="RecordsUnusual",
                    ),
                    Panel(
                        "Differences of the last proof",
                        "Rows of gold that differed from what arrived, by table and way; 0 is right.",
                        "short",
                        (Query(f"weir_proof_differences{{{mine}}}", "{{table}} {{against}}", "event"),),
                        steps=BAD,
                        alert="ProofFailed",
                    ),
                    Panel(
                        "Newest backfill",
                        "Chunks by state.",
                        "short",
                        (Query(f"weir_backfill_chunks{{{mine}}}", "{{state}}", "event"),),
                        alert="ChunkFailed",
                    ),
                    Panel(
                        "Application on YARN",
                        "1 while an application streams the domain; only on a cluster.",
                        "none",
                        (Query(f"weir_yarn_application_up{{{mine}}}", "up", "event"),),
                        steps=DOWN,
                        alert="ApplicationDown",
                    ),
                ),
            ),
        ),
    )


OVERVIEW = Board(
    "weir-overview",
    "weir · overview",
    "Is anything wrong, where, and what is to be done? Each line is a rule that fires, with its severity and the next step.",
    (
        Row(
            "What fires?",
            (
                Panel(
                    "Pages",
                    "Alerts that somebody must look at now; the runbook is linked in each line.",
                    "none",
                    (Query(FIRING % "page", "", "event"),),
                    "table",
                    BAD,
                    width=24,
                    height=5,
                ),
                Panel(
                    "Tickets",
                    "Alerts for the next days.",
                    "none",
                    (Query(FIRING % "ticket", "", "event"),),
                    "table",
                    BAD,
                    width=24,
                    height=5,
                ),
            ),
        ),
        Row(
            "Where is it late?",
            (
                Panel(
                    "Late stage",
                    "By domain, the first stage that is not as it should be.",
                    "none",
                    (Query("weir_late_stage", "{{domain}} {{stage}}"),),
                    steps=BAD,
                    alert="StageLate",
                ),
                Panel(
                    "Lag",
                    "Age of the oldest message that a query has not committed. A few seconds are normal.",
                    "s",
                    (Query("weir_query_lag_seconds", "{{query}}"),),
                    steps=LATE,
                    alert="LagHigh",
                ),
                Panel(
                    "Objectives met",
                    "1 while an objective is met.",
                    "none",
                    (Query("weir_objective_met", "{{objective}}"),),
                    "number",
                    DOWN,
                    alert="FreshnessBurnsFast",
                ),
                Panel(
                    "Parts that run",
                    "1 while a part of the stack runs.",
                    "none",
                    (Query("weir_part_up", "{{part}}"),),
                    "number",
                    DOWN,
                    "PartDown",
                ),
            ),
        ),
        Row(
            "How much?",
            (
                Panel(
                    "Rows read",
                    "Rows that each query reads, per second.",
                    "reqps",
                    (Query("query:weir_query_input_rows:rate5m", "{{query}}"),),
                ),
                Panel(
                    "Disk",
                    "Share of the disk that is free.",
                    "percentunit",
                    (Query("weir_disk_free_bytes / weir_disk_size_bytes", "{{place}}"),),
                    steps=((None, RED), (0.1, YELLOW), (0.2, GREEN)),
                    alert="DiskFull",
                ),
            ),
        ),
    ),
)

PIPELINE = Board(
    "weir-kafka-spark",
    "weir · Kafka and Spark",
    "What do the queries do, and what keeps them?",
    (
        Row(
            "Lag",
            (
                Panel(
                    "Lag by partition",
                    "Messages of each partition that bronze has not committed.",
                    "short",
                    (Query('weir_partition_lag_messages{query=~"$query"}', "{{topic}} {{partition}}"),),
                    alert="LagHigh",
                ),
                Panel(
                    "Lag by partition, in time",
                    "Age of the oldest of them.",
                    "s",
                    (Query('weir_partition_lag_seconds{query=~"$query"}', "{{topic}} {{partition}}"),),
                    steps=LATE,
                    alert="LagHigh",
                ),
                Panel(
                    "Waiting and running",
                    "Translation lag: age of the oldest message that no micro-batch has taken. Commit lag: how long the running one takes.",
                    "s",
                    (
                        Query('weir_query_translation_lag_seconds{query=~"$query"}', "{{query}} waiting"),
                        Query('weir_query_commit_lag_seconds{query=~"$query"}', "{{query}} running"),
                    ),
                    steps=LATE,
                    alert="QueryStuck",
                ),
                Panel(
                    "Trend, and time to no lag",
                    "Seconds of lag gained per second (below 0 it catches up), and when it will be done at this pace.",
                    "s",
                    (
                        Query('query:weir_query_lag_seconds:trend{query=~"$query"}', "{{query}} trend"),
                        Query('query:weir_query_lag_messages:seconds_to_zero{query=~"$query"}', "{{query}} done in", "event"),
                    ),
                    alert="LagGrows",
                ),
            ),
        ),
        Row(
            "Micro-batches",
            (
                Panel(
                    "Duration, p50 and p99",
                    "Seconds of a micro-batch.",
                    "s",
                    (
                        Query(
                            'histogram_quantile(0.5, sum by (le, query) (rate(weir_query_batch_seconds_bucket{query=~"$query"}[5m])))',
                            "{{query}} p50",
                        ),
                        Query(
                            'histogram_quantile(0.99, sum by (le, query) (rate(weir_query_batch_seconds_bucket{query=~"$query"}[5m])))',
                            "{{query}} p99",
                        ),
                    ),
                ),
                Panel(
                    "Where the time goes",
                    "Seconds per second that each phase takes.",
                    "s",
                    (Query('sum by (query, phase) (rate(weir_query_phase_seconds_sum{query=~"$query"}[5m]))', "{{query}} {{phase}}"),),
                ),
                Panel(
                    "Rows in and out",
                    "Rows per second that a query reads, and that it writes.",
                    "reqps",
                    (
                        Query('query:weir_query_input_rows:rate5m{query=~"$query"}', "{{query}} in"),
                        Query('rate(weir_query_rows_out_total{query=~"$query"}[5m])', "{{query}} out"),
                    ),
                ),
                Panel(
                    "Engine",
                    "Micro-batches per second by what computed them; those too large for memory go to Spark.",
                    "reqps",
                    (Query('rate(weir_query_engine_batches_total{query=~"$query"}[5m])', "{{query}} {{engine}}"),),
                ),
            ),
        ),
        Row(
            "Trouble",
            (
                Panel("Queries", "1 while a query runs.", "none", (Query("weir_query_up", "{{query}}"),), "number", DOWN, "QueryDown"),
                Panel(
                    "Restarts",
                    "Restarts of queries and parts in 15 minutes.",
                    "short",
                    (
                        Query("increase(weir_query_restarts_total[15m])", "{{query}}", "event"),
                        Query("increase(weir_part_restarts_total[15m])", "{{part}}", "event"),
                    ),
                    steps=((None, GREEN), (1, YELLOW), (3, RED)),
                    alert="QueryRestarts",
                ),
                Panel(
                    "Rejects",
                    "Share of rows that broke a rule, by query.",
                    "percentunit",
                    (Query("query:weir_rejects:ratio15m", "{{query}}", "event"),),
                    steps=((None, GREEN), (0.05, RED)),
                    alert="RejectsHigh",
                ),
                Panel(
                    "Sources held back",
                    "Sources that the breaker holds back.",
                    "short",
                    (Query("weir_query_held_sources", "{{query}}"),),
                    steps=BAD,
                    alert="BreakerOpen",
                ),
                Panel(
                    "Late rows and unusual rows",
                    "Rows behind the watermark, and rows that were kept although they are unusual, per second.",
                    "reqps",
                    (
                        Query("rate(weir_late_rows_total[5m])", "late {{query}}"),
                        Query("rate(weir_warnings_total[5m])", "{{rule}} {{query}}", "event"),
                    ),
                ),
                Panel(
                    "Open transactions",
                    "Offsets behind a transaction that is still open: nobody can read them yet.",
                    "short",
                    (Query("weir_topic_open_transaction_messages", "{{topic}} {{partition}}", "event"),),
                    steps=BAD,
                    alert="OpenTransaction",
                ),
            ),
        ),
    ),
    (Variable("query", "label_values(weir_query_lag_seconds, query)", "query"),),
)

TABLES = Board(
    "weir-tables",
    "weir · tables and maintenance",
    "How large, how fresh and how tidy is each table?",
    (
        Row(
            "Content",
            (
                Panel("Rows", "Live rows.", "short", (Query('weir_table_rows{table=~"$table"}', "{{table}}"),)),
                Panel(
                    "Last change",
                    "Time since a commit changed rows.",
                    "s",
                    (Query('weir_table_last_commit_age_seconds{table=~"$table"}', "{{table}}"),),
                    alert="LayerStale",
                ),
                Panel(
                    "Newest hour of any city, and of the one most behind",
                    "Age of the newest measured hour or day, from its start.",
                    "s",
                    (
                        Query('weir_table_freshness_seconds{table=~"$table"}', "{{table}} newest"),
                        Query('weir_table_worst_freshness_seconds{table=~"$table"}', "{{table}} most behind"),
                    ),
                ),
                Panel(
                    "Cities without an hour",
                    "Watched cities that a table has nothing of.",
                    "short",
                    (Query('weir_table_missing_cities{table=~"$table"}', "{{table}}"),),
                    steps=BAD,
                    alert="PlacesFailing",
                ),
            ),
        ),
        Row(
            "Files",
            (
                Panel("Data files", "Data files of each table.", "short", (Query('weir_table_files{table=~"$table"}', "{{table}}"),)),
                Panel(
                    "Small files",
                    "Files that could be joined, as of the last maintenance.",
                    "short",
                    (Query('weir_table_small_files{table=~"$table"}', "{{table}}", "event"),),
                    steps=((None, GREEN), (500, RED)),
                    alert="SmallFiles",
                ),
                Panel(
                    "Delete files",
                    "Delete files and deletion vectors.",
                    "short",
                    (Query('weir_table_delete_files{table=~"$table"}', "{{table}}"),),
                ),
                Panel("Snapshots", "Snapshots that are kept.", "short", (Query('weir_table_snapshots{table=~"$table"}', "{{table}}"),)),
                Panel(
                    "Metadata",
                    "Size of the metadata file, which each commit rewrites.",
                    "bytes",
                    (Query('weir_table_metadata_bytes{table=~"$table"}', "{{table}}"),),
                    steps=((None, GREEN), (5e7, RED)),
                    alert="MetadataLarge",
                ),
                Panel(
                    "Maintained",
                    "Time since maintenance left nothing to rewrite.",
                    "s",
                    (Query('weir_table_rewrite_age_seconds{table=~"$table"}', "{{table}}", "event"),),
                    steps=((None, GREEN), (21_600, RED)),
                    alert="MaintenanceOld",
                ),
            ),
        ),
        Row(
            "Proofs and batch programs",
            (
                Panel(
                    "Last proof",
                    "Time since each domain was proved.",
                    "s",
                    (Query("weir_proof_age_seconds", "{{domain}}", "event"),),
                    alert="ProofFailed",
                ),
                Panel(
                    "Batch programs",
                    "1 where the last run of a verb succeeded; only with a Pushgateway or a textfile collector.",
                    "none",
                    (Query("weir_batch_succeeded", "{{verb}} {{domain}}", "event"),),
                    "number",
                    DOWN,
                    "BatchFailed",
                ),
            ),
        ),
    ),
    (Variable("table", "label_values(weir_table_rows, table)", "table"),),
)

PRODUCERS = Board(
    "weir-producers",
    "weir · producers",
    "Are the sources polled, and do they have anything new?",
    (
        Row(
            "Polls",
            (
                Panel(
                    "Late",
                    "1 while no poll has succeeded for two intervals, or while upstream's next run is overdue.",
                    "none",
                    (
                        Query('weir_producer_late{source=~"$source"}', "{{source}} polls"),
                        Query('weir_producer_upstream_late{source=~"$source"}', "{{source}} upstream"),
                    ),
                    steps=BAD,
                    alert="ProducerLate",
                ),
                Panel(
                    "Last poll",
                    "Time since all places were fetched and delivered.",
                    "s",
                    (Query('time() - weir_producer_last_success_timestamp_seconds{source=~"$source"}', "{{source}}"),),
                    alert="ProducerLate",
                ),
                Panel(
                    "Failing places",
                    "Places whose records the last poll could not get.",
                    "short",
                    (Query('weir_producer_failing_places{source=~"$source"}', "{{source}}"),),
                    steps=BAD,
                    alert="PlacesFailing",
                ),
                Panel(
                    "Upstream's newest change",
                    "Time since a poll saw a change.",
                    "s",
                    (Query('weir_producer_upstream_age_seconds{source=~"$source"}', "{{source}}", "event"),),
                    alert="UpstreamLate",
                ),
                Panel(
                    "Cursor",
                    "Time since the oldest instant up to which one of the places was published.",
                    "s",
                    (Query('weir_producer_cursor_age_seconds{source=~"$source"}', "{{source}}"),),
                    steps=((None, GREEN), (21_600, RED)),
                    alert="CursorBehind",
                ),
                Panel(
                    "Readings",
                    "Readings in the answers, per second and kind.",
                    "reqps",
                    (Query('rate(weir_producer_readings_total{source=~"$source"}[5m])', "{{source}} {{kind}}"),),
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Requests",
                    "Requests per second, by outcome.",
                    "reqps",
                    (Query('rate(weir_producer_calls_total{source=~"$source"}[5m])', "{{source}} {{outcome}}"),),
                    alert="UpstreamLimits",
                ),
                Panel(
                    "Budget",
                    "Share of what a limit allows that is used.",
                    "percentunit",
                    (Query("api_window:weir_producer_budget:ratio", "{{api}} {{window}}", "event"),),
                    steps=((None, GREEN), (0.9, RED)),
                    alert="BudgetNearlyUsed",
                ),
                Panel(
                    "Messages",
                    "Messages per second that Kafka took, and did not take.",
                    "reqps",
                    (
                        Query('rate(weir_producer_messages_total{source=~"$source"}[5m])', "{{source}} delivered"),
                        Query('rate(weir_producer_delivery_failures_total{source=~"$source"}[5m])', "{{source}} failed", "event"),
                    ),
                    alert="DeliveryFails",
                ),
                Panel(
                    "Retries",
                    "Requests per second that repeated a failed one.",
                    "reqps",
                    (Query('rate(weir_producer_retries_total{source=~"$source"}[5m])', "{{source}}", "event"),),
                ),
            ),
        ),
    ),
    (Variable("source", "label_values(weir_producer_late, source)", "source"),),
)

OBJECTIVES = Board(
    "weir-objectives",
    "weir · objectives",
    "Are the freshness objectives met, and how much of the error budget is left?",
    (
        Row(
            "Now",
            (
                Panel(
                    "Age",
                    "The age that each objective is about.",
                    "s",
                    (Query('weir_objective_value_seconds{objective=~"$objective"}', "{{objective}}"),),
                    alert="FreshnessBurnsFast",
                ),
                Panel(
                    "Met",
                    "1 while the age is within the bound.",
                    "none",
                    (Query('weir_objective_met{objective=~"$objective"}', "{{objective}}"),),
                    steps=DOWN,
                ),
            ),
        ),
        Row(
            "Error budget",
            (
                Panel(
                    "Burn rate",
                    "How many times faster than allowed the budget is used. A page comes at 14.4 for an hour, a ticket at 6 for six hours.",
                    "short",
                    (
                        Query('objective:weir_objective:burn1h{objective=~"$objective"}', "{{objective}} 1 h"),
                        Query('objective:weir_objective:burn6h{objective=~"$objective"}', "{{objective}} 6 h"),
                    ),
                    steps=((None, GREEN), (6, YELLOW), (14.4, RED)),
                    alert="FreshnessBurnsFast",
                ),
                Panel(
                    "Budget left",
                    "Share of the error budget of thirty days that is left.",
                    "percentunit",
                    (Query('objective:weir_objective:budget_left30d{objective=~"$objective"}', "{{objective}}"),),
                    steps=((None, RED), (0, YELLOW), (0.25, GREEN)),
                    alert="FreshnessBurnsSlow",
                ),
            ),
        ),
    ),
    (Variable("objective", "label_values(weir_objective_bound_seconds, objective)", "objective"),),
)

YARN = Board(
    "weir-yarn",
    "weir · YARN",
    "Is there room on the cluster, and what do the executors do? Empty on one machine.",
    (
        Row(
            "Cluster",
            (
                Panel(
                    "Queue",
                    "Share of the queue that is in use. Above 80 % a driver that is started again may have to wait.",
                    "percentunit",
                    (Query("weir_yarn_queue_used_ratio", "{{queue}}", "event"),),
                    steps=((None, GREEN), (0.8, RED)),
                    alert="QueueFull",
                ),
                Panel(
                    "Applications",
                    "1 while an application streams the domain.",
                    "none",
                    (Query("weir_yarn_application_up", "{{domain}}", "event"),),
                    "number",
                    DOWN,
                    "ApplicationDown",
                ),
                Panel("Containers", "Containers of each.", "short", (Query("weir_yarn_application_containers", "{{domain}}", "event"),)),
                Panel("Memory", "Memory of all of them.", "bytes", (Query("weir_yarn_application_memory_bytes", "{{domain}}", "event"),)),
            ),
        ),
        Row(
            "Executors",
            (
                Panel(
                    "Memory",
                    "Storage memory that executors use, as Spark's page tells it.",
                    "bytes",
                    (Query("metrics_executor_memoryUsed_bytes", "{{domains}} {{executor_id}}", "event"),),
                ),
                Panel(
                    "Tasks",
                    "Tasks per second, done and failed.",
                    "reqps",
                    (
                        Query("rate(metrics_executor_completedTasks_total[5m])", "{{domains}} {{executor_id}} done", "event"),
                        Query("rate(metrics_executor_failedTasks_total[5m])", "{{domains}} {{executor_id}} failed", "event"),
                    ),
                    alert="ExecutorsFail",
                ),
            ),
        ),
    ),
)

BOARDS = (OVERVIEW, *map(_domain_board, DOMAINS), PIPELINE, TABLES, PRODUCERS, OBJECTIVES, YARN)
