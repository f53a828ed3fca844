# Debian's Node.js and npm, for machines that have none to copy.
FROM debian:bookworm
RUN useradd --uid 1000 --user-group --create-home --shell /bin/bash node
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
ARG NPM_REGISTRY
ENV npm_config_registry=$NPM_REGISTRY NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
CMD ["node"]
