package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-build/cairn/examples/internal/bases"
	"github.com/cairn-build/cairn/layer/compress"
)

// The functions in this file do the work of a workload without a builder, which is a
// lower bound for the time that any builder needs.

// bareSteps mounts an overlay and runs a shell in new namespaces, n times.
func bareSteps(n int) func(context.Context, *lab, string) (time.Duration, error) {
	return func(ctx context.Context, _ *lab, dir string) (time.Duration, error) {
		root := filepath.Join(dir, "bare")
		defer os.RemoveAll(root)
		for _, sub := range []string{"lower", "mount"} {
			if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
				return 0, err
			}
		}
		begin := time.Now()
		for i := range n {
			script := fmt.Sprintf("mkdir u%d w%d && mount -t overlay -o lowerdir=lower,upperdir=u%d,workdir=w%d none mount && echo %d > mount/f%d", i, i, i, i, i, i)
			c := exec.CommandContext(ctx, "/bin/busybox", "sh", "-c", script)
			c.Dir = root
			c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS, Unshareflags: syscall.CLONE_NEWNS}
			if out, err := c.CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%s: %w\n%s", script, err, out)
			}
		}
		return time.Since(begin), nil
	}
}

// barePack reads a tree, compresses it and hashes it on all cores.
func barePack(name string) func(context.Context, *lab, string) (time.Duration, error) {
	return func(ctx context.Context, _ *lab, dir string) (time.Duration, error) {
		begin := time.Now()
		err := pack(ctx, dir, name)
		return time.Since(begin), err
	}
}

func joinClose(err error, list ...io.Closer) error {
	for _, c := range list {
		if cerr := c.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// bareCopyRun copies Debian's /usr and packs the copy.
func bareCopyRun(ctx context.Context, _ *lab, dir string) (time.Duration, error) {
	root := filepath.Join(dir, "bare")
	defer os.RemoveAll(root)
	if err := os.Mkdir(root, 0o755); err != nil {
		return 0, err
	}
	if _, err := output(ctx, root, "tar", "-xf", bases.DebianArchive(), "./usr"); err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := output(ctx, root, "cp", "-a", "usr", "usr2"); err != nil {
		return 0, err
	}
	err := pack(ctx, root, "usr2")
	return time.Since(begin), err
}

// pack reads a tree with tar, and compresses and hashes the archive.
func pack(ctx context.Context, dir, name string) error {
	c := exec.CommandContext(ctx, "tar", "-C", dir, "-cf", "-", name)
	in, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	out, err := compress.NewWriter(io.Discard, compress.Options{})
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return joinClose(err, out, waiter{c})
}

type waiter struct{ c *exec.Cmd }

func (w waiter) Close() error { return w.c.Wait() }

// bareWide runs the commands of the stages, one for each core at a time.
func bareWide(ctx context.Context, _ *lab, dir string) (time.Duration, error) {
	begin := time.Now()
	var g errgroup.Group
	g.SetLimit(cores())
	for range 8 {
		g.Go(func() error {
			_, err := output(ctx, dir, "/bin/busybox", "sh", "-c", hashing)
			return err
		})
	}
	err := g.Wait()
	return time.Since(begin), err
}

// bareRequests starts a program and sends n requests in sequence.
func bareRequests(n int) func(context.Context, *lab, string) (time.Duration, error) {
	return func(ctx context.Context, l *lab, _ string) (time.Duration, error) {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		begin := time.Now()
		if _, err := output(ctx, "", l.cairn, "version"); err != nil {
			return 0, err
		}
		for range n {
			if _, err := fetch(ctx, client, l.registry, "library/busybox/manifests/latest"); err != nil {
				return 0, err
			}
		}
		return time.Since(begin), nil
	}
}

// bareUnpack downloads, hashes and unpacks the layers of the base image.
func bareUnpack(ctx context.Context, l *lab, dir string) (time.Duration, error) {
	root := filepath.Join(dir, "bare")
	defer os.RemoveAll(root)
	begin := time.Now()
	layers, err := l.layers(ctx, l.registry+"/library/base500:latest")
	if err != nil {
		return 0, err
	}
	var g errgroup.Group
	g.SetLimit(cores())
	for i, d := range layers {
		g.Go(func() error { return l.unpack(ctx, d.Digest, filepath.Join(root, fmt.Sprint(i))) })
	}
	err = g.Wait()
	return time.Since(begin), err
}

func (l *lab) unpack(ctx context.Context, digest, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	resp, err := get(ctx, http.DefaultClient, l.registry, "library/base500/blobs/"+digest)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	plain, err := compress.NewReader(resp.Body)
	if err != nil {
		return err
	}
	defer plain.Close()
	c := exec.CommandContext(ctx, "tar", "-C", dir, "-xf", "-")
	c.Stdin = plain
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), err, out)
	}
	return nil
}
