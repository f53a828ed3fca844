package main

// base is the image that the workloads run on: Debian with a Go toolchain, an archive
// and a package.
const base = `FROM golang:1.26
RUN mkdir /debs && cd /debs && apt-get update && apt-get download hello && rm -rf /var/lib/apt/lists/*
RUN tar -czf /files.tgz -C /usr/local/go/src .
`

// workload is the command of a RUN.
type workload struct {
	name, what string
	command    string
	goal       float64 // the most CPU time by gVisor, as a multiple of that natively; 0 for none
	steps      int     // RUN instructions with the command
}

// Workloads of which the report has more than their ratios.
const (
	startWorkload  = "start"
	threeWorkload  = "three"
	elevenWorkload = "eleven"
)

func workloads() []workload {
	return []workload{
		{startWorkload, "`true`", "true", 0, 1},
		{threeWorkload, "three RUNs that write a file", "date >> /written", 0, 3},
		{elevenWorkload, "eleven RUNs that write a file", "date >> /written", 0, 11},
		{"fork", "500 x fork and exec", "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done", 5, 1},
		{"files", "5,000 small files written, listed and read", "mkdir /f && i=0 && while [ $i -lt 5000 ]; do echo $i > /f/$i; i=$((i+1)); done && ls -l /f | wc -l && cat /f/* | wc -c", 2, 1},
		{"apt", "`apt-get install` of a local package", "apt-get install -y /debs/hello_*.deb", 2, 1},
		{"compile", "`go build -a` of the Go runtime", "cd /usr/local/go/src && GOCACHE=/tmp/c GOFLAGS=-trimpath CGO_ENABLED=0 GOROOT=/usr/local/go ../bin/go build -a runtime errors", 1.4, 1},
		{"tar", "`tar -xz` of the Go source", "mkdir /x && tar -xzf /files.tgz -C /x", 0, 1},
	}
}
