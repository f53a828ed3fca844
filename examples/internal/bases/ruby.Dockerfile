# Debian's Ruby and Bundler.
FROM debian:bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends ruby ruby-dev ruby-bundler \
 && rm -rf /var/lib/apt/lists/*
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
CMD ["irb"]
