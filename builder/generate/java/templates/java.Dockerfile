FROM {{.Image}} AS build
WORKDIR /src
COPY . .
# Downloads stay in the cache mount, which is no part of the image.
RUN --mount=type=cache,target={{.Cache}} \
    mkdir -p /out \
 && {{.Build}} \
 && {{.Output}}
{{if eq .Kind "layers"}}RUN java -Djarmode=tools -jar /out/app.jar extract --layers --destination /layers
{{else if eq .Kind "layertools"}}RUN mkdir /layers && cd /layers && java -Djarmode=layertools -jar /out/app.jar extract
{{end}}
FROM eclipse-temurin:{{.Version}}-jre
WORKDIR /app
{{if eq .Kind "copy"}}COPY --from=build /out/ ./
{{else}}# Layers that change rarely come first.
COPY --from=build /layers/dependencies/ ./
COPY --from=build /layers/spring-boot-loader/ ./
COPY --from=build /layers/snapshot-dependencies/ ./
COPY --from=build /layers/application/ ./
{{end}}USER 10001:10001
{{if .Port}}EXPOSE {{.Port}}
{{end}}CMD {{.Command}}
