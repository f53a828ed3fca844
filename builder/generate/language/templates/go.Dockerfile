FROM {{if not .Cgo}}--platform=$BUILDPLATFORM {{end}}golang:{{.Version}}-bookworm AS build
WORKDIR /src
{{if not .Vendored}}# The modules are downloaded again only if these files change.
{{range .Modules}}COPY {{range .Files}}{{.}} {{end}}{{.To}}
{{end}}RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download
{{end}}COPY . .
{{if .Labelled}}ARG VERSION=dev
{{end}}{{if .Cgo}}RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=1 go build -trimpath {{.Ldflags}} -o /out/{{.Binary}} {{.Package}}

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home app
{{else}}ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath {{.Ldflags}} -o /out/{{.Binary}} {{.Package}}

# CA certificates and time zones, but no shell.
FROM gcr.io/distroless/static-debian12:nonroot
{{end}}WORKDIR /app
COPY --from=build /out/{{.Binary}} ./
{{range .Files}}COPY {{.}} ./{{.}}
{{end}}{{if .PortVar}}ENV PORT={{.Port}}
{{end}}{{if .Port}}EXPOSE {{.Port}}
{{end}}USER {{if .Cgo}}10001:10001{{else}}65532:65532{{end}}
ENTRYPOINT ["/app/{{.Binary}}"]
