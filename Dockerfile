# The service. Build: docker build -t fastewq .   Run: docker run -p 8000:8000 fastewq
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fastewq fastewq
COPY api api
COPY models models
RUN python -m venv --without-pip /opt/fastewq \
 && pip --python /opt/fastewq install --no-cache-dir '.[api]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home fastewq
COPY --from=build /opt/fastewq /opt/fastewq
# The base image has no compiled standard library, and its user could not keep one: without this every start, and every
# health check, would compile anew what it imports.
RUN /opt/fastewq/bin/python -c "import http.client, fastewq.hub, fastewq.api.app, fastewq.api.server"
# A number, which Kubernetes can tell from root.
USER 10001
EXPOSE 8000
# Not urllib, which would ask the proxy that an environment may name.
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
  CMD ["/opt/fastewq/bin/python", "-c", "import http.client; c = http.client.HTTPConnection('127.0.0.1', 8000, timeout=1); c.request('GET', '/readyz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["/opt/fastewq/bin/fastewq", "serve", "--host", "0.0.0.0", "--port", "8000"]
