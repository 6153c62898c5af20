"""The watch's metrics: at an address for Prometheus, and as a file for node_exporter."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pgdrill.alerts.model import AlertState
from pgdrill.watch.measures import Sample
from pgdrill.watch_settings import Watch

logger = logging.getLogger(__name__)

Source = Callable[[], Iterable[Sample]]


class Samples(Collector):
    """Gives what the sources have at the moment of asking; a name ending in _total is a counter."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with all its samples."""
        families: dict[str, Metric] = {}
        for one in self.source():
            if one.name not in families:
                kind = CounterMetricFamily if one.name.endswith("_total") else GaugeMetricFamily
                families[one.name] = kind(one.name, one.help, labels=tuple(one.labels))
            families[one.name].add_metric(list(one.labels.values()), one.value)  # type: ignore[attr-defined]
        yield from families.values()


class Exposition:
    """Shows metrics where the settings say, and follows them when they change."""

    def __init__(self, source: Source) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(Samples(source))
        self._address: tuple[str, int] | None = None
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        self._trouble = ""

    def follow(self, settings: Watch) -> None:
        """Listen at the address of the settings, and write their file. What cannot be is logged,
        and tried again at the next call.
        """
        trouble = []
        try:
            self._listen(settings.address)
        except OSError as error:
            trouble.append(f"cannot listen at {settings.listen}: {error}")
        try:
            if settings.textfile:
                write_to_textfile(settings.textfile, self.registry)
                Path(settings.textfile).chmod(0o644)  # another user's exporter reads it
        except OSError as error:
            trouble.append(f"cannot write {settings.textfile}: {error}")
        words = "; ".join(trouble)
        if words and words != self._trouble:
            logger.warning("metrics: %s", words)
        self._trouble = words

    def close(self) -> None:
        """Listen no more."""
        if self._server:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
        self._server = self._address = None

    def _listen(self, address: tuple[str, int] | None) -> None:
        if address == self._address:
            return
        self.close()
        if address:
            host, port = address
            self._server = start_http_server(port, host, registry=self.registry)
            self._address = address


def of_alerts(cluster: str, state: AlertState) -> Iterator[Sample]:
    """Yield how many alerts are open, and how the channels did."""
    for severity in ("critical", "warning", "unknown"):
        opened = [one for one in state.alerts.values() if one.open and not one.hidden_by]
        yield Sample(
            "pgdrill_alerts_open", "Alerts that are open and no consequence of another",
            {"cluster": cluster, "severity": severity},
            sum(one.severity == severity for one in opened),
        )  # fmt: skip
    for channel, record in state.channels.items():
        labels = {"cluster": cluster, "channel": channel}
        yield Sample(
            "pgdrill_alert_sent_total", "Messages that a channel took", labels, record.sent
        )
        yield Sample(
            "pgdrill_alert_send_failures_total", "Tries that a channel did not take", labels,
            record.failed,
        )  # fmt: skip
        yield Sample(
            "pgdrill_alert_given_up_total",
            "Messages that a channel never took",
            labels,
            record.lost,
        )


def of_configuration(wrong: Iterable[str], watched: Iterable[str]) -> Iterator[Sample]:
    """Yield for each cluster of the file, and for the rest of it, whether it is right."""
    bad = set(wrong)
    for name in sorted({*bad, *watched, ""}):
        yield Sample(
            "pgdrill_configuration_ok", "1: dr.toml is right for it; without cluster: the rest",
            {"cluster": name}, float(name not in bad),
        )  # fmt: skip
