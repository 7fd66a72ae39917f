"""The prediction service: an export asked over HTTP, and a page to try it on. Without TensorFlow, Keras or MLflow.

Open first: `page_files`.
"""
