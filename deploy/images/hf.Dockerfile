# The hf service on OpenVINO, without models. Those that need torch: --extra torch: docker build -f deploy/images/hf.Dockerfile -t arena-llm-hf .
# Set the digest of the base where you build: PYTHON=python:3.12-slim-bookworm@sha256:...
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /build
COPY deploy/uv.txt deploy/uv.txt
RUN python -m pip install --no-cache-dir --require-hashes -r deploy/uv.txt
COPY pyproject.toml uv.lock ./
COPY client client
COPY client-compat client-compat
COPY services services
ENV UV_PROJECT_ENVIRONMENT=/app/.venv UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
# Every package has its hash in uv.lock.
RUN uv sync --frozen --no-editable --extra hf --extra otel

FROM ${PYTHON}
COPY --from=build /app/.venv /app/.venv
ENV PATH=/app/.venv/bin:${PATH} PYTHONUNBUFFERED=1
WORKDIR /app
# A new volume takes its owner from this folder.
RUN install -d -o 10001 -g 10001 /cache
USER 10001:10001
EXPOSE 50054 50154
CMD ["python", "-m", "services.hf"]
