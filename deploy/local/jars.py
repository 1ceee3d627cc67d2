"""Which jars do Spark and Kafka run on, and are they here?"""

from pathlib import Path

from deploy.local.errors import MissingJars

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = REPOSITORY / ".jars"


def jars_for(classpath: str, folder: Path | None = None) -> list[Path]:
    """List a class path's jars in a fixed order: an archive of loaded classes is valid for one order only."""
    where = (folder or DEFAULT_FOLDER) / classpath
    found = sorted(where.glob("*.jar"))
    if not found:
        raise MissingJars(where, ["all of them"])
    return found
