{{template "assets" .}}
FROM python:{{.Version}}-slim-bookworm{{if not .Bare}} AS build{{end}}
{{if .Headers}}RUN apt-get update \
 && apt-get install -y --no-install-recommends{{range .Headers}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/*
{{end}}{{if not .Bare}}RUN {{.Tool}}
ENV{{range .Env}} {{.}}{{end}}
WORKDIR /app
{{if .Install}}# The dependencies are installed again only if these files change.
{{range .Manifests}}COPY {{range .Files}}{{.}} {{end}}{{.To}}
{{end}}RUN --mount=type=cache,target={{.ToolCache}} \
    {{.Install}}
{{end}}{{if .Server}}# Better: add it to the dependencies, and remove this line.
RUN --mount=type=cache,target={{.ToolCache}} \
    {{.Server}}
{{end}}{{if .Project}}{{template "sources" .}}
RUN --mount=type=cache,target={{.ToolCache}} \
    {{.Project}}
{{end}}
FROM python:{{.Version}}-slim-bookworm
{{end}}RUN {{if .Libraries}}apt-get update \
 && apt-get install -y --no-install-recommends{{range .Libraries}} {{.}}{{end}} \
 && rm -rf /var/lib/apt/lists/* \
 && {{end}}useradd --uid 10001 --no-create-home app
WORKDIR /app
ENV {{if not .Bare}}PATH=/venv/bin:$PATH {{end}}PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1{{range .Paths}} PYTHONPATH={{.}}{{end}}{{if .PortVar}} PORT={{.Port}}{{end}}{{if .Settings}} DJANGO_SETTINGS_MODULE={{.Settings}}{{end}}
{{if not .Bare}}COPY --from=build /venv /venv
{{end}}{{template "sources" .}}
{{if .Collect}}RUN {{.Collect}}
{{end}}USER 10001:10001
{{if .Port}}EXPOSE {{.Port}}
{{end}}{{template "health" .}}
CMD {{.Command}}
