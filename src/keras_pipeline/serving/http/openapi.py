"""The description of every path for clients, as OpenAPI 3.1, and a page that shows it."""

import html
from typing import Any

from keras_pipeline.serving.batching import TOGETHER
from keras_pipeline.serving.http.answers import JSON, Answer, json_answer
from keras_pipeline.serving.http.inference_protocol import datatype
from keras_pipeline.serving.inputs.images import takes_pictures
from keras_pipeline.serving.network import Network

RAW = "application/octet-stream"
TEXT: dict[str, Any] = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object"}
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": TEXT},
    "additionalProperties": False,
}
REFUSALS = {
    "400": "no HTTP, or no JSON", "401": "the token is missing or another one", "403": "a page of another origin",
    "404": "nothing is there", "405": "another method", "408": "the request did not come within 8 s",
    "413": "the body or the number of inputs is too large", "415": "another Content-Type, or a packed body",
    "421": "the Host header names another host", "422": "a value is not what it must be; its index is named",
    "431": "the head is too long", "500": "the service failed; the number of the error is named",
    "507": "so many drawings are kept already",
    "503": "too many requests wait, or the service ends: try again after Retry-After",
}  # fmt: skip
SUMMARIES = {
    "/predict": "What the network says of one input or many",
    "/model": "Which network answers: its export.json without its files",
    "/neighbours": "The training images nearest to one input (the service of a checkout)",
    "/drawn": "Keep a drawing with its label, on consent (the service of a checkout)",
    "/health": "Whether the process lives",
    "/ready": "Whether requests are answered",
    "/metrics": "Numbers for Prometheus",
    "/v2": "Open Inference Protocol: the server",
    "/v2/health/live": "Open Inference Protocol: whether the process lives",
    "/v2/health/ready": "Open Inference Protocol: whether requests are answered",
    "/v2/models/{name}": "Open Inference Protocol: the model",
    "/v2/models/{name}/ready": "Open Inference Protocol: whether the model answers",
    "/v2/models/{name}/infer": "Open Inference Protocol: what the network gives",
}


def description(network: Network, paths: dict[str, tuple[str, ...]], version: str, token: bool) -> dict[str, Any]:
    """The OpenAPI document of a service."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras-pipeline",
            "version": version,
            "description": f"The prediction service of {network.name}. Up to {TOGETHER} inputs that wait go through "
            "the network together.",
        },
        "paths": {
            path: {method.lower(): _operation(path, method, network, token) for method in methods}
            for path, methods in paths.items()
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(path: str, method: str, network: Network, token: bool) -> dict[str, Any]:
    short = path.replace("/versions/{version}", "")
    names = [name for name in ("name", "version") if f"{{{name}}}" in path]
    values = {"name": network.name, "version": network.version}
    status, kind, schema = _answer(short, network)
    operation: dict[str, Any] = {
        "summary": SUMMARIES[short],
        "operationId": f"{method.lower()}{path.replace('/', '_').replace('{', '').replace('}', '')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": TEXT, "example": values[name]} for name in names
        ],
        "responses": {
            status: {"description": "the answer", "content": {one: {"schema": schema} for one in kind}},
            **{code: {"description": text, "content": {JSON: {"schema": ERROR}}} for code, text in REFUSALS.items()},
        },
    }
    if short == "/predict":
        operation["parameters"].append(
            {"name": "model", "in": "query", "schema": {"type": "string", "enum": ["champion", "candidate"]}}
        )
    if body := _body(short, network):
        operation["requestBody"] = {"required": True, "content": body}
    if token and short not in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
        operation["security"] = [{"token": []}]
    return operation


def _answer(path: str, network: Network) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    if path == "/metrics":
        return "200", ("text/plain",), TEXT
    if path.endswith("/infer"):
        return "200", (JSON, RAW), {}
    if path != "/predict":
        return ("201" if path == "/drawn" else "200"), (JSON,), OBJECT
    names = network.manifest["class_names"]
    one = (
        {"required": ["value"], "properties": {"value": {"type": "number"}}}
        if network.manifest["task"] == "regression"
        else {
            "required": ["label", "probabilities"],
            "properties": {
                "label": {"type": "string", "enum": names},
                "probabilities": {"type": "array", "items": {"type": "number"}},
            },
        }
    )
    model = {
        "type": "object",
        "required": ["name", "version", "run"],
        "properties": dict.fromkeys(("name", "version", "run"), TEXT),
    }
    properties = {"predictions": {"type": "array", "items": {"type": "object", **one}}, "model": model, "warning": TEXT}
    return "200", (JSON,), {"type": "object", "required": ["predictions", "model"], "properties": properties}


def _body(path: str, network: Network) -> dict[str, Any]:
    """The bodies that a path takes, by their types."""
    one = _input(network)
    named = [_row(network)] if path == "/predict" and not network.of_images else []
    raw = {"schema": {"type": "string", "format": "binary"}}
    pictures = {"image/png": raw, "image/jpeg": raw} if takes_pictures(network) else {}
    many = [{"type": "array", "items": each, "minItems": 1} for each in (one, *named)]
    inputs = {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {"inputs": {"anyOf": [one, *named, *many]}},
    }
    if path in ("/predict", "/neighbours"):
        return {RAW: raw, JSON: {"schema": inputs}, **pictures}
    if path == "/drawn":
        names = network.manifest["class_names"]
        properties = {"pixels": one, "label": {"type": "string", "enum": names or [""]}, "consent": {"const": True}}
        return {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": [*properties],
                    "additionalProperties": False,
                    "properties": properties,
                }
            }
        }
    if path.endswith("/infer"):
        tensor = {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"const": network.input_name},
                "shape": {"type": "array", "items": {"type": "integer"}},
                "datatype": {"const": datatype(network)},
                "data": {"type": "array"},
            },
        }
        tensors = {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1}
        return {
            JSON: {"schema": {"type": "object", "required": ["inputs"], "properties": {"id": TEXT, "inputs": tensors}}}
        }
    return {}


def _input(network: Network) -> dict[str, Any]:
    """One input as JSON."""
    schema: dict[str, Any] = {"type": "integer" if network.kind.kind == "u" else "number"}
    if network.of_images:
        schema |= {"minimum": network.low, "maximum": network.high}
    for size in reversed(network.shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    return schema


def _row(network: Network) -> dict[str, Any]:
    """One row of a table, its columns by name."""
    given: Any = network.manifest["input"]
    properties: dict[str, Any] = {}
    for column in given["columns"]:
        if column["kind"] == "number":
            properties[column["name"]] = {"type": "number" if column["fill"] is None else ["number", "null"]}
        else:
            gap = column["missing"] != "refuse"
            known = ", ".join(column["categories"][:20])
            properties[column["name"]] = {
                "type": ["string", "null"] if gap else "string",
                "description": f"known: {known}; all else counts as other",
            }
    return {"type": "object", "required": [*properties], "properties": properties}


def documents(described: dict[str, Any]) -> dict[str, Answer]:
    """/openapi.json, and a page of it at /docs."""
    rows = "".join(
        f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(operation['summary'])}</td>"
        f"<td>{html.escape(', '.join(operation.get('requestBody', {}).get('content', {})))}</td></tr>"
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>keras-pipeline: paths</title><h1>Paths</h1>'
        f"<table><tr><th>method<th>path<th>what<th>bodies</tr>{rows}</table>"
        '<p>For programs: <a href="/openapi.json">openapi.json</a></p></html>'
    )
    return {"/openapi.json": json_answer(described), "/docs": Answer(page.encode(), "text/html; charset=utf-8")}
