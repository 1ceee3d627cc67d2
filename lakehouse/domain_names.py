"""What are the domains called, and where is each put together? Apart from `registry.py`, so that naming one loads no Spark."""

# The name on the command line, and the module whose `build(settings)` gives the domain.
DOMAINS: dict[str, str] = {
    "air_quality": "lakehouse.domains.air_quality.domain",
    "kaggle": "lakehouse.domains.kaggle.domain",
}
