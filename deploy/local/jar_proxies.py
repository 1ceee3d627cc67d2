"""How do Maven and Ivy use the environment's proxy? Neither reads http_proxy and similar variables.

Maven reads proxies from its settings only. It gets a copy of its global settings with the proxy added, and still reads the user's
`~/.m2/settings.xml`. If either names a proxy already, that one is used. Ivy gets Java's properties from an argument file. Both are
files, since they may contain a password and every user can read a command line; only this user can read the files' folder.
"""

import os
import pwd
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from lakehouse.machine.proxies import Proxy, excepted_hosts, proxy_for

SCHEMES = ("http", "https")


def proxies_by_scheme(environment: Mapping[str, str]) -> dict[str, Proxy]:
    """Return the environment's proxies by scheme; none where no_proxy excepts every host.

    Raises:
        BadProxyError: a proxy cannot be used.
    """
    if "*" in excepted_hosts(environment):
        return {}
    return {scheme: proxy for scheme in SCHEMES if (proxy := proxy_for(scheme, environment))}


def maven_options(settings: Path, environment: Mapping[str, str]) -> list[str]:
    """Write Maven's global settings with the environment's proxies, and return Maven's options for that file; none without a proxy.

    Args:
        settings: file to write.
        environment: where proxies, PATH and HOME are looked up.

    Raises:
        BadProxyError: a proxy cannot be used.
    """
    proxies = proxies_by_scheme(environment)
    own = _global_settings(environment)
    if not proxies or any(_has_proxy(file) for file in (own, *_user_settings(environment))):
        return []
    root = _read(own) if own.exists() else ET.Element("settings")
    if root is None:  # Maven reads the same file and reports the error with its line
        return []
    space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
    if space:
        ET.register_namespace("", space.strip("{}"))  # Maven accepts elements without a prefix only
    holder = root.find(f"{space}proxies")
    holder = ET.SubElement(root, f"{space}proxies") if holder is None else holder
    for scheme, proxy in proxies.items():
        element = ET.SubElement(holder, f"{space}proxy")
        facts = {"id": f"environment-{scheme}", "active": "true", "protocol": scheme, "host": proxy.host, "port": str(proxy.port)}
        credentials = {"username": proxy.user, "password": proxy.password} if proxy.user else {}
        for name, value in {**facts, **credentials, "nonProxyHosts": _java_hosts(excepted_hosts(environment))}.items():
            ET.SubElement(element, f"{space}{name}").text = value
    _write_private(settings, ET.tostring(root, encoding="unicode"))
    return ["-gs", str(settings)]


def java_arguments(file: Path, environment: Mapping[str, str]) -> list[str]:
    """Write Java's proxy properties into an argument file, and return the argument for that file; none without a proxy.

    Raises:
        BadProxyError: a proxy cannot be used.
    """
    proxies = proxies_by_scheme(environment)
    if not proxies:
        return []
    properties = {"http.nonProxyHosts": _java_hosts(excepted_hosts(environment))}
    for scheme, proxy in proxies.items():
        properties |= {f"{scheme}.proxyHost": proxy.host, f"{scheme}.proxyPort": str(proxy.port)}
        if proxy.user:
            # Ivy reads this pair for both schemes. By default Java does not send a password to open a tunnel.
            properties |= {
                "http.proxyUser": proxy.user,
                "http.proxyPassword": proxy.password,
                "jdk.http.auth.tunneling.disabledSchemes": "",
            }
    _write_private(file, "".join(f"{_quoted(f'-D{name}={value}')}\n" for name, value in properties.items()))
    return [f"@{file}"]


def _java_hosts(hosts: Iterable[str]) -> str:
    """Convert the hosts of no_proxy to Java's nonProxyHosts; networks that its patterns cannot express are left out."""
    patterns: list[str] = []
    for host in hosts:
        name = host.lstrip(".*").strip("[]")
        if not name:
            continue
        with suppress(ValueError):
            network = IPv4Network(name, strict=False)
            if network.prefixlen % 8 == 0:
                octets = str(network.network_address).split(".")[: network.prefixlen // 8]
                patterns.append(".".join([*octets, *("*" if network.prefixlen < 32 else "",)]).rstrip("."))
            continue
        with suppress(ValueError):
            patterns.append(f"[{ip_address(name)}]")
            continue
        name = name.rpartition(":")[0] or name  # Java's patterns have no port, so the whole host is excepted
        if "/" not in name:
            patterns += [name, f"*.{name}"]
    return "|".join(dict.fromkeys(patterns))


def _global_settings(environment: Mapping[str, str]) -> Path:
    launcher = shutil.which("mvn", path=environment.get("PATH", ""))
    home = environment.get("MAVEN_HOME") or environment.get("M2_HOME")
    own = Path(launcher).resolve().parents[1] / "conf" / "settings.xml" if launcher else Path("/nonexistent")
    return own if own.exists() or not home else Path(home) / "conf" / "settings.xml"


def _user_settings(environment: Mapping[str, str]) -> list[Path]:
    # Java asks the system for the home folder and ignores HOME.
    homes = [environment.get("HOME", "")]
    with suppress(KeyError):
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    return [Path(home) / ".m2" / "settings.xml" for home in dict.fromkeys(homes) if home]


def _has_proxy(settings: Path) -> bool:
    root = _read(settings) if settings.exists() else None
    return root is not None and any(str(element.tag).rpartition("}")[2] == "proxy" for element in root.iter())


def _read(settings: Path) -> ET.Element | None:
    try:
        return ET.parse(settings).getroot()
    except (OSError, ET.ParseError):
        return None


def _quoted(argument: str) -> str:
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_private(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as content:
        content.write(text)
