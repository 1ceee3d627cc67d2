"""What can end a stream, and does starting it again help?"""

from lakehouse.errors import Fatal, Retryable, StreamError


class NoKafka(StreamError, Retryable):
    """No broker is known, or none answers."""

    def __init__(self, bootstrap: str, why: str = "") -> None:
        where = f"No broker answers at {bootstrap}" if bootstrap else "No Kafka is known"
        super().__init__(f"{where}{': ' + why if why else ''}. `weir up --services-only` starts the embedded one; or set WEIR_KAFKA_BOOTSTRAP to host:port.")


class QueryFailed(StreamError, Retryable):
    """A query ended with an error."""

    def __init__(self, query: str, cause: str) -> None:
        super().__init__(f"Query {query} ended: {cause}. Its checkpoint is intact; it goes on where it stopped when started again.")
        self.query = query


class AlreadyRunning(StreamError, Fatal):
    """Another driver of the same query runs on this home."""

    def __init__(self, domain: str, pid: str) -> None:
        super().__init__(f"The stream of {domain} already runs here (process {pid or 'unknown'}): two drivers would write the same tables. `weir down` stops it.")
