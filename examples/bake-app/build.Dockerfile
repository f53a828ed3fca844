FROM golang:1.26
WORKDIR /src
RUN go mod init example.com/bake-app
COPY greet greet
COPY count count
ARG VERSION=dev
ENV CGO_ENABLED=0 VERSION=$VERSION
