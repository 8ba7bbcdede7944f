# The service. Build: docker build -t fastewq .   Run: docker run -p 8000:8000 fastewq
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fastewq fastewq
COPY api api
COPY models models
RUN python -m venv /opt/fastewq \
 && /opt/fastewq/bin/pip install --no-cache-dir '.[api]'

FROM python:3.12-slim
RUN useradd --system --no-create-home fastewq
COPY --from=build /opt/fastewq /opt/fastewq
USER fastewq
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
  CMD ["/opt/fastewq/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=1)"]
ENTRYPOINT ["/opt/fastewq/bin/fastewq", "serve", "--host", "0.0.0.0", "--port", "8000"]
