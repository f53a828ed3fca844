FROM denoland/deno:{{.Version}}
WORKDIR /app
{{if .Manifests}}COPY {{range .Manifests}}{{.}} {{end}}./
RUN deno install{{if .Locked}} --frozen{{end}}
{{end}}COPY . .
{{if .Build}}RUN {{.Build}}
{{end}}{{if .Entry}}# Compiles what the program imports, so that it starts fast and without a network.
RUN deno cache {{.Entry}}
{{end}}{{if .PortVar}}ENV PORT={{.Port}}
{{end}}USER deno
EXPOSE {{.Port}}
{{template "health" .}}
CMD {{.Command}}
