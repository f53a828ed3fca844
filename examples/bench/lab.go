package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/examples/bases"
)

// lab is a folder with a registry and both peers.
type lab struct {
	dir      string
	cairn    string
	registry string
	buildkit *buildkit
	stops    []func()
}

func newLab(ctx context.Context, cairn string) (l *lab, err error) {
	l = &lab{cairn: cairn}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "cairn-bench-"); err != nil {
		return l, err
	}
	if err := l.startRegistry(); err != nil {
		return l, err
	}
	m := bases.Maker{Cairn: cairn, Root: l.root(), Registry: l.registry, Log: os.Stderr}
	if err := m.Push(ctx, "busybox"); err != nil {
		return l, err
	}
	l.buildkit, err = l.startBuildKit(ctx)
	return l, err
}

func (l *lab) root() string { return filepath.Join(l.dir, "store") }

func (l *lab) close() {
	for _, stop := range slices.Backward(l.stops) {
		stop()
	}
	os.RemoveAll(l.dir)
}

func (l *lab) startRegistry() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.registry = listener.Addr().String()
	listener.Close()
	config := filepath.Join(l.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n",
		filepath.Join(l.dir, "registry"), l.registry)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	_, err = l.start(exec.Command("docker-registry", "serve", config), func() bool {
		resp, err := http.Get("http://" + l.registry + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return err
}

// start starts a program that runs until the lab closes, and waits until it is
// ready.
func (l *lab) start(cmd *exec.Cmd, ready func() bool) (*os.Process, error) {
	log, err := os.Create(filepath.Join(l.dir, filepath.Base(cmd.Path)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	l.stops = append(l.stops, func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-done
	})
	for !ready() {
		select {
		case err := <-done:
			done <- err
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("%s ended: %v\n%s", cmd, err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return cmd.Process, nil
}

// startTime is the median of what the smallest command takes.
func (l *lab) startTime(ctx context.Context) (time.Duration, error) {
	var all []time.Duration
	for range 21 {
		begin := time.Now()
		if _, err := output(ctx, l.dir, l.cairn, "version"); err != nil {
			return 0, err
		}
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, &stderr)
	}
	return stdout.String(), nil
}

// timed runs a command and measures it, with the processes that it waited for.
func timed(cmd *exec.Cmd) (sample, error) {
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("%s: %w\n%s", cmd, err, &log)
	}
	s := sample{wall: time.Since(begin)}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return s, errors.New("no usage of a process is known")
	}
	s.peak = usage.Maxrss << 10
	return s, nil
}

func firstLine(path, prefix string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimLeft(strings.TrimSpace(rest), ": \t")
		}
	}
	return "?"
}
