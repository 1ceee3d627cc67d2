"""Names that a forward proxy alone can look up: a host that this machine reaches through its proxy only."""

from proxy.http.proxy import HttpProxyBasePlugin


class Names(HttpProxyBasePlugin):
    """Every name that ends in .invalid is the proxy's own machine."""

    def resolve_dns(self, host: str, port: int) -> tuple[str | None, tuple[str, int] | None]:
        """Look a name up."""
        return ("127.0.0.1" if host.endswith(".invalid") else None), None
