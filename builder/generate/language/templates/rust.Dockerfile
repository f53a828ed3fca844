FROM rust:{{.Version}}-slim-bookworm AS build
{{if .Packages}}RUN apt-get update \
 && apt-get install -y --no-install-recommends{{range .Packages}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/*
{{end}}WORKDIR /src
COPY . .
# Crates and objects stay in cache mounts, which are no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/usr/local/cargo/git \
    --mount=type=cache,target=/src/target \
    {{.Build}} \
 && mkdir /out \
 && cp target/release/{{.Binary}} /out/

{{if .TLS}}FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 \
 && rm -rf /var/lib/apt/lists/*
{{else}}# glibc, CA certificates and time zones, but no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
{{end}}WORKDIR /app
COPY --from=build /out/{{.Binary}} ./
{{range .Files}}COPY {{.}} ./{{.}}
{{end}}{{if .PortVar}}ENV PORT={{.Port}}
{{end}}USER 65532:65532
{{if .Port}}EXPOSE {{.Port}}
{{end}}ENTRYPOINT ["/app/{{.Binary}}"]
