# The prediction service: no TensorFlow, no root, nothing written but to /tmp. docs/containers.md tells how to use it.
#   docker build -t keras-pipeline-serve .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -e KERAS_PIPELINE_SERVE_TOKEN \
#     -v "$PWD/models/export:/model:ro" keras-pipeline-serve
ARG PYTHON=python:3.13-slim-trixie

FROM ${PYTHON} AS build
WORKDIR /build
COPY requirements.lock requirements-serve.lock ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > requirements-build.lock \
    && python -m pip install --no-cache-dir --require-hashes -r requirements-build.lock \
    && python -m venv /venv \
    && /venv/bin/python -m pip install --no-cache-dir --only-binary :all: --require-hashes -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /venv/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin serve
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["keras-pipeline", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/model"]
