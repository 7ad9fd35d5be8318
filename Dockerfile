# The base must have Python 3.11 or newer with venv; both stages must use the same one.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
# a file in the base with the certificates that pip shall trust, where the default is not right
ARG PIP_CERT
WORKDIR /build
RUN python3 -m venv /opt/ociappr
COPY requirements.lock .
RUN /opt/ociappr/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY ociappr ociappr
RUN /opt/ociappr/bin/pip install --no-deps --no-build-isolation --no-index . \
    && /opt/ociappr/bin/pip uninstall --yes setuptools pip

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ociappr \
    && install --directory --owner=ociappr --group=ociappr /data
COPY --from=build /opt/ociappr /opt/ociappr
ENV PATH=/opt/ociappr/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    OCIAPPR_SERVER__LISTEN=0.0.0.0:5000
# the default data directory is ./data
WORKDIR /
VOLUME /data
USER ociappr
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['OCIAPPR_SERVER__LISTEN'].rpartition(':')[2] + '/livez', timeout=4)"]
# no shell between the engine and the server: SIGTERM reaches it
ENTRYPOINT ["ociappr"]
CMD ["serve"]
