# Images for running without this repository; both work as any user and with a read-only root.
#   docker build --target connector --build-arg CONNECTOR=tap-oso-example --tag tap-oso-example .
#   docker build --target project --tag oso-connect .
# What the build stages run is in images/, where the tests run it too.
FROM python:3.13.13-slim-bookworm@sha256:355bfa66770995d7e9a0da4b3473b44d0cb451f6b56f5615ad9c39e3c4eca03f AS python

FROM python AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /project
COPY . .
RUN images/uv

FROM build AS build-connector
ARG CONNECTOR
RUN images/connector "$CONNECTOR" /opt/connector

FROM build AS build-project
RUN images/project

FROM python AS final
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.source="https://github.com/opensource-observer/oso-connect" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
ENV HOME=/tmp
USER 65532:65532

FROM final AS connector
ARG CONNECTOR
LABEL org.opencontainers.image.title="$CONNECTOR" \
      org.opencontainers.image.description="$CONNECTOR, a Singer connector of OSO Connect"
COPY --from=build-connector /opt/connector /opt/connector
ENTRYPOINT ["/opt/connector/bin/connector"]

FROM final AS project
LABEL org.opencontainers.image.title="oso-connect" \
      org.opencontainers.image.description="All sources and targets of OSO Connect, run by Meltano"
COPY --from=build-project /project /project
WORKDIR /project
# What Meltano writes goes to /tmp; the state goes where MELTANO_STATE_BACKEND_URI says.
ENV MELTANO_DATABASE_URI=sqlite:////tmp/meltano.db \
    MELTANO_PROJECT_READONLY=true \
    PATH=/project/.venv/bin:$PATH
ENTRYPOINT ["oso-pipeline"]
CMD ["--help"]
