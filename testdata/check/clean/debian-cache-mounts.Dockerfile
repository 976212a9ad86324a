# syntax=docker/dockerfile:1
FROM debian:13-slim
SHELL ["/bin/bash", "-eo", "pipefail", "-c"]
RUN rm -f /etc/apt/apt.conf.d/docker-clean
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    apt-get update && apt-get install -y --no-install-recommends ca-certificates curl
RUN curl -fsSL https://example.com/tool.tar.gz | tar -xz -C /usr/local/bin
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.com/data.bin /usr/share/data.bin
ADD rootfs.tar.xz /
RUN <<EOF
set -e
apt-get --version | head -1
mkdir -p /srv/data
EOF
COPY <<EOF /etc/motd
Welcome
EOF
ARG GIT_COMMIT
LABEL org.opencontainers.image.revision=$GIT_COMMIT
CMD ["bash"]
