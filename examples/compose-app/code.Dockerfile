FROM golang:1.26
WORKDIR /src
RUN go mod init example.org/shop
COPY api api
COPY migrate migrate
COPY web web
ARG VERSION
RUN --mount=type=secret,id=license --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X 'main.version=$VERSION' -X 'main.license=$(cat /run/secrets/license)'" -o /out/ ./...
