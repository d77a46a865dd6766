# ESS without the embedded store: for Kafka and ClickHouse servers, or as an ingest on the embedded log. Built by
# compose/compose.yaml, or:  docker build --tag ess:0.1.0 .
#
# The base is the Node.js on which all tests run; Debian 12 has glibc 2.36, which is what uWebSockets.js needs for Node.js
# 20. For another:  --build-arg NODE_IMAGE=node:24-trixie-slim  (Node.js 22 and 24 need glibc 2.38; Debian 13 has 2.41).
# Images on musl (alpine) do not work: the native modules are made for glibc.
ARG NODE_IMAGE=node:20.20.2-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY build.mjs tsconfig.json ./
COPY scripts scripts
COPY docs docs
COPY src src
RUN node build.mjs

FROM ${NODE_IMAGE} AS packages
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
COPY scripts/slim.mjs scripts/slim.mjs
# Not --omit=optional: that would leave out lmdb's binary too.
RUN npm ci --omit=dev && node scripts/slim.mjs

FROM ${NODE_IMAGE}
ENV NODE_ENV=production \
    ESS_HOST=0.0.0.0 \
    ESS_DATA_DIR=/var/lib/ess
WORKDIR /app
RUN mkdir --parents /var/lib/ess && chown node:node /var/lib/ess
COPY --from=packages /src/node_modules node_modules
COPY --from=build /src/dist dist
COPY package.json LICENSE ./
COPY scripts/healthcheck.mjs scripts/healthcheck.mjs
# By number: an orchestrator that forbids root can tell only so. It is the image's user `node`.
USER 1000:1000
VOLUME /var/lib/ess
EXPOSE 8080
# Alive, not ready: an orchestrator may kill what this fails for, which would not mend a broker.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "/app/scripts/healthcheck.mjs", "/healthz"]
# Exec form, so that SIGTERM reaches it. It starts no processes, so that it may be process 1; compose puts an init before it.
ENTRYPOINT ["node", "--enable-source-maps", "/app/dist/ess.js"]
CMD ["--role", "all"]
