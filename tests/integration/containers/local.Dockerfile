# Images of Redis and Prometheus for machines that reach no public registry. Like the public ones, they have
# the users 999 and 65534, who own the folders of the data.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS redis
RUN apt-get update -q && apt-get install -q -y --no-install-recommends redis-server redis-tools \
    && rm -rf /var/lib/apt/lists/* && install -d -o 999 -g 999 /data
WORKDIR /data
USER 999:999
CMD ["redis-server"]

FROM ${BASE} AS prometheus
RUN apt-get update -q && apt-get install -q -y --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* && install -d -o 65534 -g 65534 /prometheus
WORKDIR /prometheus
USER 65534:65534
ENTRYPOINT ["prometheus"]
