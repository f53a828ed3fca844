// Picture draws the pictures of a build in README.md.
//
//	go run ./examples/internal/picture -cairn bin/cairn -o .github/build
//
// It builds examples/go-service twice, the second time with a changed source file and
// on a terminal of its own, and draws the last screen of that terminal as
// .github/build-light.svg and .github/build-dark.svg. The base image is made on this
// machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

const (
	columns = 100
	rows    = 40
)

func main() {
	log.SetFlags(0)
	cairn := flag.String("cairn", "bin/cairn", "the binary")
	out := flag.String("o", ".github/build", "the beginning of the names of the pictures")
	flag.Parse()
	if err := run(*cairn, *out); err != nil {
		log.Fatal(err)
	}
}

func run(cairn, out string) error {
	cairn, err := filepath.Abs(cairn)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cairn-picture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	registry, stop, err := serve(cairn, filepath.Join(dir, "registry"))
	if err != nil {
		return err
	}
	defer stop()
	base := bases.Maker{Cairn: cairn, Root: filepath.Join(dir, "bases"), Registry: registry, Log: io.Discard}
	if err := base.Push(context.Background(), "golang"); err != nil {
		return err
	}
	source := filepath.Join(dir, "go-service")
	if err := os.CopyFS(source, os.DirFS("examples/go-service")); err != nil {
		return err
	}
	args := append([]string{"--root", filepath.Join(dir, "store"), "build", "--registry-mirror", registry}, bases.ProxyArgs()...)
	build := func() *exec.Cmd {
		cmd := exec.Command(cairn, append(args, "-t", "go-service", ".")...)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=", "CAIRN_BUILDS=0")
		return cmd
	}
	if text, err := build().CombinedOutput(); err != nil {
		return fmt.Errorf("the first build: %w\n%s", err, text)
	}
	f, err := os.OpenFile(filepath.Join(source, "main.go"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString("\n// Changed.\n"); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	text, err := onTerminal(build())
	if err != nil {
		return fmt.Errorf("the build on a terminal: %w\n%s", err, text)
	}
	s := newScreen(columns)
	s.write("$ cairn build -t go-service .\n" + string(text))
	for _, theme := range themes {
		if err := os.WriteFile(out+"-"+theme.name+".svg", []byte(s.draw(theme)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a registry and waits until it listens.
func serve(cairn, dir string) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	l.Close()
	cmd := exec.Command(cairn, "registry", "serve", "--addr", addr, "--dir", dir)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr, stop, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("the registry does not listen on %s", addr)
}
