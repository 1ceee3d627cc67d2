"""Which jars do Spark and Kafka need, and how are they fetched?

jars.lock lists every jar with its SHA-256. Jars are fetched by their Maven coordinates with an ordinary resolver and its usual settings:
`mvn` if it is installed, else the Ivy in pyspark. No repository is named here. A jar is put into its folder only after a check of its hash.

    python -m deploy.local.jars fetch [--folder FOLDER]    fetch the jars that are missing or wrong
    python -m deploy.local.jars lock                       write jars.lock from jars.in; needs mvn
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from deploy.local.errors import JarsUnavailable, MissingJars, WrongJarHash
from deploy.local.jar_proxies import java_arguments, maven_options, proxies_by_scheme
from lakehouse.errors import WeirError
from lakehouse.machine.environment import UTF8_LOCALE
from lakehouse.machine.java import find_java
from lakehouse.machine.terminal import speak_plainly
from lakehouse.storage.paths import check_class_path

ClassPath = Literal["spark", "kafka"]

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = REPOSITORY / ".jars"
LOCK = Path(__file__).with_name("jars.lock")
WANTED = Path(__file__).with_name("jars.in")
# With its version, else each Maven uses its own default: Maven 3.8 has 2.8, from 2013.
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# With a good connection, fetching all jars took seconds with Maven and less than a minute with Ivy.
FETCH_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Jar:
    """One jar by its Maven coordinates; `sha256` is empty where it is not known yet."""

    group: str
    artifact: str
    version: str
    classpath: str
    sha256: str = ""

    @classmethod
    def parse(cls, coordinates: str, classpath: str, sha256: str = "") -> "Jar":
        """Parse group:artifact:version."""
        group, artifact, version = coordinates.split(":")
        return cls(group, artifact, version, classpath, sha256)

    @property
    def coordinates(self) -> str:
        """group:artifact:version."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        """Return the file's name in the folder of its class path."""
        return f"{self.artifact}-{self.version}.jar"


def locked_jars(lock: Path = LOCK) -> list[Jar]:
    """Read jars.lock, in the order of the file."""
    rows = [line.split() for line in lock.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return [Jar.parse(coordinates, classpath, sha256) for coordinates, sha256, classpath in rows]


def jars_for(classpath: ClassPath, folder: Path | None = None) -> list[Path]:
    """List a class path's jars in the order of jars.lock, since an archive of loaded classes is valid for one order only.

    Raises:
        MissingJars: one or more are not in the folder.
    """
    # Resolved, since Java may find no classes below a folder that is linked instead (`place_for_java` in bootstrap.sh).
    where = (folder or DEFAULT_FOLDER).resolve() / classpath
    files = [where / jar.file_name for jar in locked_jars() if jar.classpath == classpath]
    if missing := [file.name for file in files if not file.exists()]:
        raise MissingJars(where, missing)
    check_class_path(where, "`make setup` puts them where Java finds them.")
    return files


def fetch(folder: Path, environment: Mapping[str, str], jars: Iterable[Jar] | None = None) -> int:
    """Fetch every locked jar into the folder of its class path.

    Args:
        folder: contains one folder for each class path.
        environment: where mvn, Java and the proxies are looked up.
        jars: fetched instead of the locked jars.

    Returns:
        The number of fetched jars; the others were present with the right hash.

    Raises:
        JarsUnavailable: the resolver failed; fetched jars are kept.
        WrongJarHash: a resolver returned another file than the locked one.
        WrongJava: there is no Java that can run a resolver.
        BadProxyError: the environment names a proxy that cannot be used.
    """
    wanted = [jar for jar in (locked_jars() if jars is None else jars) if _sha256(folder / jar.classpath / jar.file_name) != jar.sha256]
    folder = folder.resolve()  # Java resolves links when it loads jars
    folder.mkdir(parents=True, exist_ok=True)
    with _work_folder() as work:
        for classpath in sorted({jar.classpath for jar in wanted}):
            group = [jar for jar in wanted if jar.classpath == classpath]
            print(f"  fetching {len(group)} jars of the {classpath} class path", file=sys.stderr)
            _fetch_group(group, folder / classpath, Path(work) / classpath, environment)
    return len(wanted)


def _fetch_group(jars: list[Jar], into: Path, work: Path, environment: Mapping[str, str]) -> None:
    into.mkdir(parents=True, exist_ok=True)
    missing, resolver, reason = jars, "", ""
    for resolver, run in (("Maven", by_maven), ("Ivy", by_ivy)):
        arrived = work / resolver
        arrived.mkdir(parents=True)
        output = run(missing, arrived, environment)
        if output is None:  # not on this machine
            continue
        reason = _reason(output)
        for jar in [jar for jar in missing if (arrived / jar.file_name).exists()]:
            _take(jar, arrived / jar.file_name, into / jar.file_name)
        missing = [jar for jar in missing if not (into / jar.file_name).exists() or _sha256(into / jar.file_name) != jar.sha256]
        if not missing:
            return
    if proxy := proxies_by_scheme(environment).get("https"):
        reason += f"; with the proxy {proxy.variable}={proxy.scheme}://{proxy.host}:{proxy.port}"
    raise JarsUnavailable(resolver, len(missing), reason)


def _take(jar: Jar, arrived: Path, target: Path) -> None:
    sha256 = _sha256(arrived)
    if sha256 != jar.sha256:
        raise WrongJarHash(jar.coordinates, sha256 or "", jar.sha256)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(arrived, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    """Create a working folder for a resolver, apart from the jars, since Maven and Ivy read a backslash in a path as a slash."""
    usual = tempfile.gettempdir()
    return tempfile.TemporaryDirectory(prefix="weir-jars-", dir="/tmp" if "\\" in usual else usual)


def by_maven(jars: list[Jar], into: Path, environment: Mapping[str, str]) -> str | None:
    """Fetch jars with Maven and return its output; None where there is no Maven."""
    if shutil.which("mvn", path=environment.get("PATH", "")) is None:
        return None
    return _maven(jars, environment, into, f"-DoutputDirectory={into}")


def _maven(jars: list[Jar], environment: Mapping[str, str], folder: Path, *options: str, closure: Iterable[Jar] = ()) -> str:
    exclusions = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    dependencies = "".join(
        f"<dependency><groupId>{jar.group}</groupId><artifactId>{jar.artifact}</artifactId><version>{jar.version}</version>"
        f"{'' if jar in closure else exclusions}</dependency>\n"
        for jar in jars
    )
    pom = folder.with_suffix(".pom.xml")
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion>\n"
        "<groupId>weir</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>\n"
        f"<dependencies>\n{dependencies}</dependencies></project>\n"
    )
    proxied = maven_options(folder.with_suffix(".maven.xml"), environment)
    return _run(["mvn", "-B", "-q", *proxied, "-f", str(pom), COPY_GOAL, "-DincludeScope=runtime", *options], environment)


def by_ivy(jars: list[Jar], into: Path, environment: Mapping[str, str]) -> str | None:
    """Fetch jars with pyspark's Ivy and return its output; None where there is no Ivy.

    It uses a cache of its own, since it fails where ~/.m2 or ~/.ivy2 has an artifact's POM without the jar.
    """
    java = find_java(environment)
    spec = find_spec("pyspark")
    # Ivy alone on the class path: with the HTTP client among Spark's jars it would not send a password to a proxy.
    ivy = [] if spec is None or spec.origin is None else sorted((Path(spec.origin).resolve().parent / "jars").glob("ivy-*.jar"))
    if not ivy:
        return None
    settings = Path(environment.get("HOME", "/nonexistent")) / ".ivy2" / "ivysettings.xml"
    if not settings.exists():
        settings = into.with_suffix(".settings.xml")
        # Without POMs: the list is the closure already, and fetching the POMs of all jars and their parents took longer than the jars.
        settings.write_text(
            '<ivysettings><settings defaultResolver="public"/>'
            '<resolvers><ibiblio name="public" m2compatible="true" usepoms="false"/></resolvers></ivysettings>\n'
        )
    dependencies = "".join(
        f'<dependency org="{jar.group}" name="{jar.artifact}" rev="{jar.version}" transitive="false"/>\n' for jar in jars
    )
    module = into.with_suffix(".ivy.xml")
    module.write_text(
        f'<ivy-module version="2.0"><info organisation="weir" module="jars"/>\n<dependencies>\n{dependencies}</dependencies></ivy-module>\n'
    )
    proxied = java_arguments(into.with_suffix(".java.args"), environment)
    command = [str(java.launcher), *proxied, "-cp", str(ivy[-1]), "org.apache.ivy.Main"]
    # Relative to their folder, since Ivy would read brackets and parentheses in a path as part of its pattern.
    options = ["-settings", str(settings), "-cache", f"{into.name}.cache", "-ivy", module.name]
    return _run([*command, *options, "-retrieve", f"{into.name}/[artifact]-[revision].[ext]"], environment, into.parent)


def _run(command: list[str], environment: Mapping[str, str], folder: Path | None = None) -> str:
    # With a locale that is not UTF-8, Java cannot open file names with characters beyond ASCII.
    own = {**environment, "LC_ALL": UTF8_LOCALE}
    try:
        done = subprocess.run(
            command, cwd=folder, env=own, stdin=subprocess.DEVNULL, capture_output=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"error: it did not end within {FETCH_SECONDS} s"
    return (done.stdout + done.stderr).decode(errors="replace")  # the encoding depends on the JVM options of the environment


def _reason(output: str) -> str:
    """Return the line of a resolver's output that names the cause, without colours."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    network = [line for line in lines if re.search(r"UnknownHost|[Uu]nknown host|[Cc]onnect|[Nn]etwork|timed out|resolve host", line)]
    telling = [line for line in lines if re.search(r"ERROR|error:|not found|Exception", line)]
    if network:
        return f"no connection to its repository ({network[0][:200]})"
    return (telling or [line for line in lines if line] or ["it printed nothing"])[0][:300]


def _sha256(file: Path) -> str | None:
    if not file.exists():
        return None
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def lock(environment: Mapping[str, str], wanted_file: Path = WANTED) -> None:
    """Resolve a jars.in with Maven and write jars.lock beside it: each class path's closure, sorted, with hashes.

    Raises:
        JarsUnavailable: Maven is missing, or could not resolve them.
    """
    rows = [line.split() for line in wanted_file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    locked: list[Jar] = []
    for classpath in sorted({row[1] for row in rows}):
        wanted = [Jar.parse(row[0], classpath) for row in rows if row[1] == classpath]
        closure = [Jar.parse(row[0], classpath) for row in rows if row[1] == classpath and row[2] == "closure"]
        with _work_folder() as work:
            into = Path(work) / classpath
            into.mkdir()
            if shutil.which("mvn", path=environment.get("PATH", "")) is None:
                raise JarsUnavailable("Maven", len(wanted), "there is no mvn on PATH, and only Maven can resolve a closure")
            output = _maven(wanted, environment, into, f"-DoutputDirectory={into}", "-Dmdep.useRepositoryLayout=true", closure=closure)
            files = sorted(into.rglob("*.jar"))
            if len(files) < len(wanted):
                raise JarsUnavailable("Maven", len(wanted) - len(files), _reason(output))
            for file in files:
                *group, artifact, version, name = file.relative_to(into).parts
                # One with a classifier is a native library for one machine's kind, which its program does without.
                if name != f"{artifact}-{version}.jar":
                    continue
                locked.append(Jar(".".join(group), artifact, version, classpath, _sha256(file) or ""))
    header = "# group:artifact:version  sha256  classpath. Written by `make lock` from jars.in: each class path's whole closure.\n"
    wanted_file.with_name(LOCK.name).write_text(header + "".join(f"{jar.coordinates}  {jar.sha256}  {jar.classpath}\n" for jar in locked))


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two verbs; a known error prints its message on stderr and exits with 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.jars", description="Fetch or lock the jars of Spark and Kafka.")
    parser.add_argument("verb", choices=["fetch", "lock"])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="folder that contains one folder for each class path")
    parser.add_argument("--wanted", type=Path, default=WANTED, help="with lock: the list of jars to resolve (default: jars.in)")
    asked = parser.parse_args(arguments)
    speak_plainly()
    try:
        if asked.verb == "lock":
            lock(dict(os.environ), asked.wanted)
        else:
            fetch(asked.folder, dict(os.environ))
    except WeirError as error:
        print(f"jars: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
