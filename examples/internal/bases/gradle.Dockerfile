# Debian's Gradle and JDK.
FROM debian:bookworm
RUN apt-get update \
 && apt-get install -y --no-install-recommends openjdk-17-jdk-headless gradle \
 && rm -rf /var/lib/apt/lists/*
CMD ["gradle"]
