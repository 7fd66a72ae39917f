"""What Prometheus is told: requests, their times, batches, and which network answers."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from keras_pipeline.serving.batching import Batching
from keras_pipeline.serving.http.answers import Answer
from keras_pipeline.serving.network import Models

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
PREFIX = "keras_pipeline_serve"


class Metrics:
    """Of one service."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            f"{PREFIX}_requests", "Answers, by path and status", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            f"{PREFIX}_request_seconds", "From the head of a request to its answer", ["path"], registry=registry,
            buckets=SECONDS,
        )  # fmt: skip
        self._left = Counter(f"{PREFIX}_clients_left", "Clients that left before their answer", registry=registry)
        self._inputs = Counter(f"{PREFIX}_inputs", "Inputs that the network answered", registry=registry)
        self._waiting = Gauge(f"{PREFIX}_waiting", "Requests that wait for the network", registry=registry)
        self._batch = Gauge(
            f"{PREFIX}_batch_inputs", "Inputs in a batch, the mean of the last 1,000", registry=registry
        )
        self._problem = Gauge(
            f"{PREFIX}_model_problem", "1 where the registry names a model that does not answer", registry=registry
        )
        self._model = Info(f"{PREFIX}_model", "The network that answers", registry=registry)
        self._of: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request to this path was."""
        key = (path, status)
        if key not in self._of:
            self._of[key] = self._requests.labels(path, str(status)), self._seconds.labels(path)
        counter, histogram = self._of[key]
        counter.inc()
        histogram.observe(seconds)

    def left(self) -> None:
        """A client was gone before its answer."""
        self._left.inc()

    def predicted(self, count: int) -> None:
        """So many inputs were answered."""
        self._inputs.inc(count)

    def shown(self, models: Models, batching: Batching) -> Answer:
        """All of it, as Prometheus reads it."""
        self._waiting.set(batching.waiting)
        self._batch.set(sum(batching.sizes) / len(batching.sizes) if batching.sizes else 0)
        self._problem.set(models.problem is not None)
        self._model.info(models.champion.told())
        return Answer(generate_latest(self._registry), CONTENT_TYPE_LATEST)
