{{define "health"}}{{if .Health}}
# Docker and podman run this; Kubernetes ignores it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD {{.Health}}
{{end}}{{end}}

{{define "install"}}{{if .Setup}}RUN {{.Setup}}
{{end}}{{if .Early}}{{template "all" .}}{{else}}# The dependencies are installed again only if these files change.
{{range .Manifests}}COPY {{range .Files}}{{.}} {{end}}{{.To}}
{{end}}{{end}}RUN --mount=type=cache,target={{.Cache}}{{if .Secret}} \
    --mount=type=secret,id=npmrc,target=/app/.npmrc,required=true{{end}} \
    {{if .Only}}{{.Only}}{{else}}{{.Install}}{{end}}
{{end}}

{{define "all"}}{{if .Sources}}# The package, those of the workspace that it needs, and what the root has for builds.
{{end}}{{range .Sources}}COPY {{range .Files}}{{.}} {{end}}{{.To}}
{{else}}COPY . .
{{end}}{{end}}

{{define "build"}}{{if .Args}}# Written into the files for browsers: --build-arg NAME=VALUE.
{{range .Args}}ARG {{.}}
{{end}}{{end}}{{if .Generate}}RUN {{.Generate}}
{{end}}{{if .Build}}RUN {{.Build}}
{{end}}{{end}}

{{define "assets"}}{{with .Assets}}FROM {{.Image}} AS assets
WORKDIR /app
{{template "install" .}}
{{if not .Early}}COPY . .
{{end}}{{template "build" .}}RUN rm -rf node_modules
{{end}}{{end}}

{{define "sources"}}{{if .Assets}}# The sources with the assets.
COPY --from=assets /app ./{{else}}COPY . .{{end}}{{end}}
