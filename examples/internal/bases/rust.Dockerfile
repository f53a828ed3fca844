# Debian's Rust.
FROM debian:bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends cargo gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
CMD ["bash"]
