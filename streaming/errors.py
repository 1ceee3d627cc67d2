"""What can end a stream, and does starting it again help?"""

from lakehouse.errors import Fatal, Retryable, StreamError


class QueryFailed(StreamError, Retryable):
    """A query ended with an error."""

    def __init__(self, query: str, cause: str) -> None:
        super().__init__(f"Query {query} ended: {cause}. Its checkpoint is intact: started again, it goes on where it stopped.")
        self.query = query


class AlreadyRunning(StreamError, Fatal):
    """Another driver of the same query runs on this home."""

    def __init__(self, domain: str, pid: str) -> None:
        super().__init__(
            f"The stream of {domain} already runs here (process {pid or 'unknown'}): two drivers would write the same tables. "
            "`weir down` stops it."
        )
