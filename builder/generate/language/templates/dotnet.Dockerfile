FROM mcr.microsoft.com/dotnet/sdk:{{.SDK}} AS build
WORKDIR /src
# The packages are restored again only if these files change.
{{range .Manifests}}COPY {{range .Files}}{{.}} {{end}}{{.To}}
{{end}}RUN --mount=type=cache,target=/root/.nuget/packages \
    {{.Restore}}
COPY . .
RUN --mount=type=cache,target=/root/.nuget/packages \
    dotnet publish {{.Project}} --configuration Release --no-restore --output /out /p:UseAppHost=false

FROM mcr.microsoft.com/dotnet/{{.Runtime}}:{{.Version}}
WORKDIR /app
COPY --from=build /out ./
{{if .Port}}ENV ASPNETCORE_URLS=http://+:{{.Port}}
EXPOSE {{.Port}}
{{end}}USER 1654:1654
ENTRYPOINT {{.Command}}
