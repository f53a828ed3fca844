FROM {{.Image}} AS base
WORKDIR /app
{{if .Packages}}RUN apt-get update \
 && apt-get install -y --no-install-recommends{{range .Packages}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/*
{{end}}
FROM base AS build
{{template "install" .}}
{{if not .Early}}{{template "all" .}}{{end}}{{template "build" .}}
{{if .Prune}}# The image has no dependencies of development.
RUN --mount=type=cache,target={{.Cache}} \
    {{.Prune}}
{{end}}{{if .Deploy}}# The package alone, with its dependencies of production.
RUN --mount=type=cache,target={{.Cache}} \
    {{.Deploy}}
{{end}}
FROM base
ENV{{range .Env}} {{.}}{{end}}
{{.Tip}}
{{range .Outputs}}COPY --from=build {{range .Files}}{{.}} {{end}}{{.To}}
{{else}}COPY --from=build /app ./
{{end}}{{if .Dir}}WORKDIR /app/{{.Dir}}
{{end}}USER {{.User}}
EXPOSE {{.Port}}
{{template "health" .}}
CMD {{.Command}}
