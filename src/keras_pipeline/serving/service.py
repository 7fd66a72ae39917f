"""The service as an ASGI application: which answer each path gives. One table of paths, no other way in.

Plain ASGI: a request costs a third of what it does through a framework of routes, and the host, the path and the body
are looked at here alone. http/openapi.py describes every path to clients.
"""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import numpy as np

from keras_pipeline.core.errors import keep_traceback
from keras_pipeline.serving.batching import Batching
from keras_pipeline.serving.checkout import Checkout
from keras_pipeline.serving.http import inference_protocol, metrics
from keras_pipeline.serving.http.answers import JSON, Answer, Refused, json_answer
from keras_pipeline.serving.http.guard import Bodies, Guard, Receive, require_kind
from keras_pipeline.serving.inputs import numbers
from keras_pipeline.serving.inputs.images import KINDS, MOST_BYTES, Decoder
from keras_pipeline.serving.network import Models, Network, predictions

RAW = "application/octet-stream"
BROWSER = {b"origin", b"sec-fetch-site"}
"""Headers by which a browser gives itself away."""
Send = Callable[[Any], Awaitable[None]]
TRACEBACKS = 20
"""So many are kept of one service."""
LINES_A_SECOND = 10
"""So many refusals are told in the log; of the others how many there were."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler is given. `names`: the parts of the path that are no fixed ones; `model`: of ?model=."""

    headers: Mapping[bytes, bytes]
    receive: Receive
    names: tuple[str, ...]
    model: str


Handler = Callable[[Request], Awaitable[Answer]]


class Service:
    """The application. `pages`: the files at fixed paths, each a whole answer."""

    def __init__(
        self, models: Models, guard: Guard, pages: Mapping[str, Answer], checkout: Checkout | None, version: str
    ) -> None:
        self.models, self.draining = models, False
        self.batching, self.metrics = Batching(), metrics.Metrics()
        self._guard, self._pages, self._checkout, self._version = guard, pages, checkout, version
        self._bodies, self._decoder, self._log = Bodies(), Decoder(), _Log()
        self._tracebacks = 0
        self._routes: dict[str, dict[str, Handler]] = {
            "/predict": {"POST": self._predict},
            "/model": {"GET": self._model},
            "/neighbours": {"POST": self._neighbours},
            "/drawn": {"POST": self._drawn},
            "/health": {"GET": self._live},
            "/ready": {"GET": self._ready},
            "/metrics": {"GET": self._show_metrics},
            "/v2": {"GET": self._server_metadata},
            "/v2/health/live": {"GET": self._live},
            "/v2/health/ready": {"GET": self._ready},
            "/v2/models/{name}": {"GET": self._model_metadata},
            "/v2/models/{name}/ready": {"GET": self._model_ready},
            "/v2/models/{name}/infer": {"POST": self._infer},
            "/v2/models/{name}/versions/{version}": {"GET": self._model_metadata},
            "/v2/models/{name}/versions/{version}/ready": {"GET": self._model_ready},
            "/v2/models/{name}/versions/{version}/infer": {"POST": self._infer},
        }
        self._open = {"/health", "/ready", "/v2/health/live", "/v2/health/ready", *pages}
        """The paths that need no token: probes, and the page, which asks for it."""

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """Every path, but of files, with its methods."""
        return {path: tuple(methods) for path, methods in self._routes.items()}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        route = "none"
        try:
            headers = self._guard.headers(scope["headers"])
            route, names = self._find(scope["raw_path"].decode("latin-1"))
            answer = await self._handled(route, names, headers, scope, receive)
        except Refused as refused:
            answer = refused.answer()
            self._log.refused(refused.status, scope["method"], scope["raw_path"], refused.message)
        except (asyncio.CancelledError, ConnectionError):  # the client left
            self.metrics.left()
            return
        except Exception as fault:
            answer = self._failed(fault)
        head = answer.head()
        if self.draining and (b"connection", b"close") not in head:
            head.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": answer.body})
        self.metrics.answered(route, answer.status, time.perf_counter() - began)

    async def _handled(
        self, route: str, names: tuple[str, ...], headers: Mapping[bytes, bytes], scope: Any, receive: Receive
    ) -> Answer:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if route not in self._open:
            self._guard.require_token(headers)
        handlers = self._routes.get(route)
        allowed = handlers or {"GET"}
        if method not in allowed:
            names_of = ", ".join([*allowed, "HEAD"] if "GET" in allowed else allowed)
            raise Refused(405, f"Expected: {names_of}.", (b"allow", names_of.encode()), close=True)
        if handlers is None:
            return self._pages[route]
        if method == "POST":
            self._guard.require_own_page(headers)
        model = _asked_model(scope["query_string"]) if scope["query_string"] else ""
        return await handlers[method](Request(headers, receive, names, model))

    def _find(self, path: str) -> tuple[str, tuple[str, ...]]:
        """The route of a path, which must be written exactly so, and the names in it."""
        if path in self._routes or path in self._pages:
            if "{" not in path:
                return path, ()
        elif path.startswith("/v2/models/"):
            parts = path.split("/")
            at = [index for index in (3, 5) if index < len(parts)] if parts[4:5] == ["versions"] else [3]
            names = tuple(unquote(parts[index]) for index in at)
            for index, name in zip(at, ("{name}", "{version}"), strict=False):
                parts[index] = name
            route = "/".join(parts)
            if route in self._routes:
                return route, names
        raise Refused(404, "Nothing is there. Expected: a path of this service.", close=True)

    def _failed(self, fault: Exception) -> Answer:
        """The answer where something is wrong in here: a number by which the log tells more."""
        number = uuid.uuid4().hex[:12]
        self._tracebacks += 1
        where = keep_traceback(fault) if self._tracebacks <= TRACEBACKS else "no file, there are enough"
        print(
            f"serve: error {number}: {type(fault).__name__}; the traceback is in {where}", file=sys.stderr, flush=True
        )
        return json_answer({"error": f"The service failed. Its log tells more of the error {number}."}, 500)

    def _chosen(self, request: Request) -> Network:
        """The network that was asked for: the champion, or the candidate."""
        if request.model != "candidate":
            return self.models.champion
        if self.models.candidate is None:
            raise Refused(404, "There is no candidate. Expected: ?model=champion.", close=True)
        return self.models.candidate

    async def _input(self, network: Network, request: Request) -> bytes:
        """The raw inputs in a body of any of the three kinds."""
        kind = require_kind(request.headers, (RAW, JSON, *KINDS))
        most = MOST_BYTES if kind in KINDS else numbers.most_bytes(network)
        body = await self._bodies.read(request.headers, request.receive, most)
        if kind == RAW:
            numbers.raw_inputs(network, body)
            return body
        if kind == JSON:
            return numbers.json_inputs(network, body)
        return await self._decoder.raw_input(network, kind, body)

    async def _predict(self, request: Request) -> Answer:
        network = self._chosen(request)
        raw = await self._input(network, request)
        outputs = await self._outputs(network, raw)
        answer = {"predictions": predictions(network, outputs), "model": network.told()}
        if numbers.is_dark(network, raw):
            answer["warning"] = numbers.DARK
        return json_answer(answer)

    async def _outputs(self, network: Network, raw: bytes) -> "np.ndarray[Any, np.dtype[np.float32]]":
        outputs = await self.batching.outputs(network, raw)
        if not np.isfinite(outputs).all():
            index = int(np.argwhere(~np.isfinite(outputs))[0, 0])
            raise Refused(422, f"The network gives no finite number for input {index}. Expected: smaller numbers.")
        self.metrics.predicted(len(outputs))
        return outputs

    async def _infer(self, request: Request) -> Answer:
        network = self._named(request)
        if b"content-type" in request.headers or BROWSER & request.headers.keys():
            require_kind(request.headers, (JSON, RAW))  # Triton's own client says nothing
        body = await self._bodies.read(request.headers, request.receive, numbers.most_bytes(network))
        asked = inference_protocol.InferenceRequest(network, body, request.headers)
        return asked.answer(await self._outputs(network, asked.raw))

    def _named(self, request: Request) -> Network:
        """The network of a path of the Open Inference Protocol."""
        for network in (self.models.champion, self.models.candidate):
            if network is not None and request.names in ((network.name,), (network.name, network.version)):
                return network
        raise Refused(404, "No model has this name and version here. Expected: those that /model tells.", close=True)

    async def _model(self, request: Request) -> Answer:
        models = self.models
        return json_answer(
            {
                "model": _described(models.champion),
                "candidate": models.candidate and _described(models.candidate),
                "problem": models.problem,
                "neighbours": self._checkout is not None and self._checkout.has_neighbours(models.champion),
                "drawn": self._checkout is not None and _is_drawn_for(models.champion),
            }
        )

    async def _neighbours(self, request: Request) -> Answer:
        network = self.models.champion
        if self._checkout is None or not self._checkout.has_neighbours(network):
            raise Refused(404, "The training images are not here. Expected: the service of a checkout.", close=True)
        raw = await self._input(network, request)
        if len(raw) != network.size:
            raise Refused(422, f"Got {len(raw) // network.size} inputs. Expected: one.")
        return json_answer({"neighbours": await self._checkout.neighbours(network, raw)})

    async def _drawn(self, request: Request) -> Answer:
        network = self.models.champion
        if self._checkout is None or not _is_drawn_for(network):
            raise Refused(404, "Nothing is kept here. Expected: the service of a checkout.", close=True)
        require_kind(request.headers, (JSON,))
        body = await self._bodies.read(request.headers, request.receive, numbers.most_bytes(network))
        return json_answer(
            await self._checkout.keep(network, numbers.read_object(body), numbers.is_doubtful(body)), 201
        )

    async def _live(self, request: Request) -> Answer:
        return json_answer({"live": True})

    async def _ready(self, request: Request) -> Answer:
        if self.draining:
            raise Refused(503, "The service ends.", (b"retry-after", b"1"))
        return json_answer({"ready": True})

    async def _show_metrics(self, request: Request) -> Answer:
        return self.metrics.shown(self.models, self.batching)

    async def _server_metadata(self, request: Request) -> Answer:
        return json_answer(inference_protocol.server_metadata(self._version))

    async def _model_metadata(self, request: Request) -> Answer:
        return json_answer(inference_protocol.model_metadata(self._named(request)))

    async def _model_ready(self, request: Request) -> Answer:
        network = self._named(request)
        return json_answer({"name": network.name, "ready": True})


def _described(network: Network) -> dict[str, Any]:
    """A network with its export.json, but for its files."""
    manifest = {key: value for key, value in network.manifest.items() if key != "formats"}
    return {**network.told(), "manifest": manifest}


def _is_drawn_for(network: Network) -> bool:
    """Whether drawings of it can be kept: as IDX files, whose grey pixels and labels are bytes."""
    return (
        network.of_images
        and network.kind == np.uint8
        and len(network.shape) == 2
        and len(network.manifest["class_names"]) <= 256
    )


def _asked_model(query: bytes) -> str:
    pairs = (
        parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=8) if len(query) < 200 else [("", "")]
    )
    if len(pairs) != 1 or pairs[0] not in (("model", "champion"), ("model", "candidate")):
        raise Refused(422, "Another query. Expected: none, ?model=champion or ?model=candidate.", close=True)
    return pairs[0][1]


class _Log:
    """Lines about refusals, in ASCII, so many a second."""

    def __init__(self) -> None:
        self._second, self._told, self._silent = 0, 0, 0

    def refused(self, status: int, method: str, path: bytes, message: str) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._silent:
                print(f"serve: {self._silent} more refused", file=sys.stderr, flush=True)
            self._second, self._told, self._silent = second, 0, 0
        if self._told == LINES_A_SECOND:
            self._silent += 1
            return
        self._told += 1
        words = json.dumps(f"{method} {path[:200].decode('latin-1')}")
        print(
            f"serve: {status} to {words}: {message.encode('ascii', 'backslashreplace').decode()}",
            file=sys.stderr,
            flush=True,
        )
