# The proxy in a container: `docker build .`, or scripts/image, which also tries it and does without Docker.
#
#   docker run --read-only --tmpfs /tmp --publish 127.0.0.1:4242:4242 --env C42_API_TOKEN=... c42-proxy
#
# Without --tmpfs there is no SQLite file: each worker has its own memory alone, and a warning says so. The SBOM
# (CycloneDX) is /opt/c42-proxy/sbom.cdx.json.
#
# Any image with Python 3.11 or newer and its venv module is a base. /bin/sh is needed for the build alone.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm


FROM ${PYTHON_IMAGE} AS build

# Two environments: pip and what builds are in the one that is not copied into the final image.
RUN python3 -m venv /build/tools && python3 -m venv --without-pip /opt/c42-proxy

# To install packages from another place than the usual one, build with --secret id=pip.conf,src=... and
# --secret id=ca,src=..., with `cert = /run/secrets/ca` in the former. Neither of them enters a layer.
COPY deploy/requirements.txt deploy/requirements-build.txt /build/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca \
    export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore \
    && /build/tools/bin/pip install --require-hashes --only-binary :all: --requirement /build/requirements-build.txt \
    && /build/tools/bin/pip --python /opt/c42-proxy/bin/python install \
        --require-hashes --only-binary :all: --requirement /build/requirements.txt

# The proxy is installed after its dependencies, so that a change of its code does not rebuild the layers above.
COPY pyproject.toml README.md LICENSE /build/source/
COPY c42_proxy /build/source/c42_proxy
RUN /build/tools/bin/pip wheel --no-index --no-deps --no-build-isolation --no-cache-dir --wheel-dir /build /build/source \
    && /build/tools/bin/pip --python /opt/c42-proxy/bin/python install --no-index --no-deps --no-cache-dir /build/*.whl \
    && version=$(/opt/c42-proxy/bin/c42-proxy --version | sed 's/.* //') \
    && sed "s/^dynamic = .*/version = \"$version\"/" /build/source/pyproject.toml >/build/pyproject.toml \
    && /build/tools/bin/cyclonedx-py environment --pyproject /build/pyproject.toml --output-reproducible \
        --output-file /opt/c42-proxy/sbom.cdx.json /opt/c42-proxy/bin/python


FROM ${PYTHON_IMAGE}

COPY --from=build /opt/c42-proxy /opt/c42-proxy

# The root file system may be read-only. The proxy writes to /tmp (the SQLite file, if no other store is set) and to
# /dev/shm, which every container has (gunicorn's heartbeat).
ENV PATH=/opt/c42-proxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/tmp/cache \
    C42_BIND=0.0.0.0:4242 \
    C42_OPS_BIND=0.0.0.0:4243

# A number, because Kubernetes' runAsNonRoot cannot judge a name. A mounted token file must be readable for it.
USER 4242:4242
# The ops port is for probes and Prometheus. It is not here, so that `docker run --publish-all` does not publish it.
EXPOSE 4242

HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["c42-proxy", "healthcheck"]

ENTRYPOINT ["c42-proxy"]
CMD ["serve"]

# At the end, because they differ from build to build. `make version` sets the first one.
ARG VERSION=1.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="c42-proxy" \
      org.opencontainers.image.description="One Calendar42 event with its subscribers in one request, cached for 4.2 minutes." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
