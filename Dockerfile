# The application; PostgreSQL runs beside it (docker-compose.yml), or embedded, on the volume, without DATABASE_URL.
FROM python:3.13-slim-bookworm

WORKDIR /app

# The packages change seldom, so they are a layer of their own. Every hash is checked.
COPY run requirements.lock requirements-uv.lock ./
RUN UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1 ./run install && rm -rf .venv/.uv

COPY pyproject.toml alembic.ini schema.graphql ./
COPY alembic alembic
COPY persistence persistence
COPY background background
COPY graph graph
RUN python -m compileall -q alembic persistence background graph && install -d -m 0700 -o nobody -g nogroup /data

ENV TASKSTORE_DATA_DIR=/data TASKSTORE_ENVIRONMENT=production TASKSTORE_LOG_FORMAT=json
VOLUME /data
EXPOSE 8000
USER nobody

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

CMD ["./run", "serve", "--host", "0.0.0.0", "--port", "8000", "--no-browser"]
