"""The prediction service: an export asked over HTTP, and a page to try it on. Without TensorFlow, Keras or MLflow.

A request goes from `http` (what a stranger may send) to `service` (which answer a path gives), `inputs` (bytes to raw
inputs), `batching` (what waits together goes together) and `network` (ONNX Runtime). Open first: `service`.
"""
