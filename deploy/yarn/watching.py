"""What does the metrics page of the edge node show of a cluster? The queue, the applications that stream, and where their metrics are.

A driver moves whenever it is started again. So Prometheus asks the page (HTTP service discovery), and the page asks the ResourceManager
which applications run, and the state folder where the driver of each has its metrics.

Source of the form of targets: Prometheus 2.42, "HTTP SD configuration".
"""

from typing import Any

from deploy.yarn.checks import queue_of
from deploy.yarn.manager import App, Manager
from lakehouse.domain_names import DOMAINS
from lakehouse.settings import Settings
from lakehouse.storage.folders import open_folder
from monitoring.cluster import Application, ClusterFacts
from streaming.query_states import read_remote_driver

MEBIBYTE = 2**20


def cluster_facts(settings: Settings) -> ClusterFacts | None:
    """Return what the metrics page shows of the cluster; None where the settings name none.

    Raises:
        NoYarn, UnknownQueue: it cannot be read.
    """
    if not settings.is_on_yarn:
        return None
    manager = Manager(settings)
    queue = queue_of(manager, settings.yarn_queue)
    running = {domain: app for app in _running(manager) for domain in app.domains}
    applications = {domain: Application(True, app.containers, app.memory * MEBIBYTE) for domain, app in running.items()}
    return ClusterFacts(queue.name, queue.used, {domain: applications.get(domain, Application()) for domain in DOMAINS})


def scrape_targets(settings: Settings) -> list[dict[str, Any]]:
    """Return where Prometheus finds the metrics of what streams on the cluster, in its own form; empty without a cluster.

    Each application gives two targets, both with the label `domains`: its driver's metrics, and those of its executors as Spark's page has
    them, by way of the ResourceManager, which knows where the driver is.

    Raises:
        NoYarn: the ResourceManager does not answer; Prometheus then keeps the targets that it has.
    """
    if not settings.is_on_yarn:
        return []
    manager, state = Manager(settings), open_folder(settings.state_uri)
    drivers = {domain: driver for domain in DOMAINS if (driver := read_remote_driver(state, domain)) is not None}
    targets = []
    for app in _running(manager):
        labels = {"domains": ",".join(sorted(app.domains)), "__meta_weir_application": app.id}
        addresses = {one.metrics for one in drivers.values() if one.application == app.id and one.metrics}
        targets += [{"targets": [address], "labels": {**labels, "component": "driver"}} for address in sorted(addresses)]
        path = f"/proxy/{app.id}/metrics/executors/prometheus"
        targets.append({"targets": [manager.address], "labels": {**labels, "component": "executors", "__metrics_path__": path}})
    return targets


def _running(manager: Manager) -> list[App]:
    return [app for app in manager.apps() if app.state == "RUNNING" and app.domains]
