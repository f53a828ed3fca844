# The machine's own Go toolchain on Debian.
FROM debian:bookworm
COPY . /usr/local/go
ARG GOPROXY
ARG GOSUMDB
ARG GONOSUMDB
ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    GOPATH=/go GOTOOLCHAIN=local GOPROXY=$GOPROXY GOSUMDB=$GOSUMDB GONOSUMDB=$GONOSUMDB
RUN mkdir -p /go/src /go/bin && chmod -R 1777 /go && go version
# The standard library, compiled. Tests compile the examples more than once.
COPY --from=gocache . /root/.cache/go-build/
WORKDIR /go
