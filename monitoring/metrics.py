"""Which numbers does weir tell of itself? Every metric is declared here, once.

Base units, the unit in the name, counters end in `_total`. Labels come from closed sets, never ids, dates or messages.
"""

from prometheus_client import Counter, Gauge, Histogram

# The producers. outcome: ok, refused, limited, unavailable, broken.
PRODUCER_CALLS = Counter("weir_producer_calls_total", "Requests to a source, by how they ended", ["source", "outcome"])
PRODUCER_RETRIES = Counter("weir_producer_retries_total", "Requests to a source that repeated a failed one", ["source"])
PRODUCER_MESSAGES = Counter("weir_producer_messages_total", "Messages that Kafka reported as delivered", ["source"])
PRODUCER_DELIVERY_FAILURES = Counter("weir_producer_delivery_failures_total", "Messages that Kafka reported as not delivered", ["source"])
PRODUCER_LAST_SUCCESS = Gauge(
    "weir_producer_last_success_timestamp_seconds", "When all places of a source were last fetched and delivered, Unix time", ["source"]
)

# The streaming queries.
QUERY_INPUT_ROWS = Counter("weir_query_input_rows_total", "Rows that a query's micro-batches read", ["query"])
QUERY_ROWS_OUT = Counter("weir_query_rows_out_total", "Rows that a query's micro-batches passed on", ["query"])
QUERY_BATCH_SECONDS = Histogram(
    "weir_query_batch_seconds", "Processing time of a micro-batch", ["query"], buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)
)
QUERY_LAST_COMMIT = Gauge(
    "weir_query_last_commit_timestamp_seconds", "When a query last finished a micro-batch, Unix time", ["query"], multiprocess_mode="mostrecent"
)
REJECTS = Counter("weir_rejects_total", "Rows that broke a rejecting rule", ["query", "reason"])
WARNINGS = Counter("weir_warnings_total", "Rows that broke a warning rule, and went on", ["query", "rule"])
