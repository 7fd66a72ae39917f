"""The same network behind other servers, for benchmarks/serve.py: python serve_peers.py NAME FOLDER PORT

Each as its own documentation has it for one process: ONNX Runtime on one thread, batches of 64 at most. They are asked
in JSON, which all of them take. FastAPI and MLflow are in this environment, LitServe and BentoML in one of their own.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def session(folder: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(Path(folder, "model.onnx")), options, providers=["CPUExecutionProvider"])


def fastapi(folder: str, port: int) -> None:
    """A route and a model of its body, without a batch: what a tutorial shows."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    application, network = FastAPI(), session(folder)

    class Body(BaseModel):
        inputs: list[list[int]]

    @application.post("/predict")
    async def predict(body: Body) -> dict[str, list[float]]:
        outputs = network.run(None, {"pixels": np.array([body.inputs], np.uint8)})[0]
        return {"probabilities": outputs[0].tolist()}

    @application.get("/health")
    async def health() -> dict[str, bool]:
        return {"live": True}

    uvicorn.run(application, port=port, log_level="error")


def litserve(folder: str, port: int) -> None:
    """Its own batcher, which waits a millisecond."""
    os.environ["FOLDER"] = folder
    server = ls.LitServer(LitDigits(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1)
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="error")


def bentoml(folder: str, port: int) -> None:
    """`bentoml serve` of the class below, with its adaptive batcher."""
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "serve_peers:Digits", "--port", str(port)]
    os.chdir(Path(__file__).parent)
    os.execve(command[0], command, {**os.environ, "FOLDER": folder, "BENTOML_DO_NOT_TRACK": "True"})


def mlflow(folder: str, port: int) -> None:
    """`mlflow models serve` of the same file, by MLflow's own flavour for ONNX."""
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    model = Path(os.environ["PLACE"], "model")
    if not model.exists():
        pixels = ModelSignature(Schema([TensorSpec(np.dtype(np.uint8), (-1, 28, 28))]))
        mlflow.onnx.save_model(onnx.load(Path(folder, "model.onnx")), model, signature=pixels)
    command = [
        str(Path(sys.executable).with_name("mlflow")),
        "models",
        "serve",
        "-m",
        str(model),
        "--env-manager",
        "local",
    ]
    os.execv(command[0], [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"])


if "litserve" in sys.argv:
    import litserve as ls

    class LitDigits(ls.LitAPI):  # here, where its worker finds it
        def setup(self, device: str) -> None:
            self.network = session(os.environ["FOLDER"])

        def decode_request(self, request):  # type: ignore[no-untyped-def] - it looks at the annotation
            return np.array(request["inputs"], np.uint8)

        def predict(self, x: Any) -> Any:
            return self.network.run(None, {"pixels": np.asarray(x)})[0]

        def encode_response(self, output):  # type: ignore[no-untyped-def]
            return {"probabilities": output.tolist()}


if "FOLDER" in os.environ and __name__ == "serve_peers":
    import bentoml as bento

    @bento.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
    class Digits:
        def __init__(self) -> None:
            self.network = session(os.environ["FOLDER"])

        @bento.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
        def predict(self, inputs: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            return np.asarray(self.network.run(None, {"pixels": inputs.astype(np.uint8)})[0])


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
