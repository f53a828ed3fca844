package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func dockerfile(dir, text string) error {
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o644)
}

// steps writes a Dockerfile of n small RUN steps.
func steps(n int) func(context.Context, *lab, string) error {
	return func(_ context.Context, _ *lab, dir string) error {
		text := "FROM busybox\n"
		for i := range n {
			text += fmt.Sprintf("RUN echo %d > /f%d\n", i+1, i+1)
		}
		return dockerfile(dir, text)
	}
}

func goTree(ctx context.Context, _ *lab, dir string) error {
	if err := dockerfile(dir, "FROM busybox\nCOPY go /go\n"); err != nil {
		return err
	}
	return copyGo(ctx, filepath.Join(dir, "go"))
}

func copyGo(ctx context.Context, to string) error {
	goroot, err := output(ctx, "", "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	_, err = output(ctx, "", "cp", "-a", strings.TrimSpace(goroot), to)
	return err
}

func bigFile(ctx context.Context, _ *lab, dir string) error {
	if err := dockerfile(dir, "FROM busybox\nCOPY data /data\n"); err != nil {
		return err
	}
	goroot, err := output(ctx, dir, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	_, err = output(ctx, dir, "tar", "-C", filepath.Dir(strings.TrimSpace(goroot)), "-cf", "data", filepath.Base(strings.TrimSpace(goroot)))
	return err
}

// hugeFile creates a file of 4 GiB from repeated copies of Go's tree.
func hugeFile(ctx context.Context, l *lab, dir string) error {
	if err := bigFile(ctx, l, dir); err != nil {
		return err
	}
	name := filepath.Join(dir, "data")
	once, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for size := int64(len(once)); size < 4<<30 && err == nil; size += int64(len(once)) {
		_, err = f.Write(once)
	}
	return errors.Join(err, f.Close())
}

// manyFiles creates 300 directories of 1,000 files.
func manyFiles(_ context.Context, _ *lab, dir string) error {
	if err := dockerfile(dir, "FROM busybox\nCOPY files /files\n"); err != nil {
		return err
	}
	for i := range 300 {
		sub := filepath.Join(dir, "files", fmt.Sprint(i))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		for k := range 1000 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(k)), fmt.Appendf(nil, "%d %d\n", i, k), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyRun(_ context.Context, _ *lab, dir string) error {
	return dockerfile(dir, "FROM debian:bookworm\nRUN cp -a /usr /usr2 && date +%s%N > /usr2/stamp\n")
}

const hashing = "head -c 100000000 /dev/zero | sha256sum"

func wide(_ context.Context, _ *lab, dir string) error {
	var stages, copies strings.Builder
	for i := range 8 {
		fmt.Fprintf(&stages, "FROM busybox AS s%d\nRUN %s > /out%d\n", i, hashing, i)
		fmt.Fprintf(&copies, "COPY --from=s%d /out%d /\n", i, i)
	}
	return dockerfile(dir, stages.String()+"FROM busybox\n"+copies.String())
}

func warm(_ context.Context, _ *lab, dir string) error {
	text := "FROM debian:bookworm\n"
	for i := range 50 {
		text += fmt.Sprintf("ENV A%d=%d\nRUN echo %d > /f%d\n", i, i, i, i)
	}
	if err := dockerfile(dir, text+"COPY app /app\nCMD [\"sh\"]\n"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "app"), 0o755); err != nil {
		return err
	}
	for i := range 200 {
		if err := noise(filepath.Join(dir, "app", fmt.Sprint("f", i)), 20000); err != nil {
			return err
		}
	}
	return nil
}

// onBase500 writes a Dockerfile that adds instructions to the 500 MB base image.
func onBase500(text string) func(context.Context, *lab, string) error {
	return func(_ context.Context, _ *lab, dir string) error { return dockerfile(dir, "FROM base500\n"+text) }
}

// base500 creates the context of an image of 10 layers: Go's tools nine times, and
// incompressible data.
func base500(ctx context.Context, dir string) error {
	goroot, err := output(ctx, dir, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	text := "FROM busybox\n"
	for i := 1; i < 10; i++ {
		text += fmt.Sprintf("COPY layer%d /opt/\n", i)
		to := filepath.Join(dir, fmt.Sprint("layer", i))
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		if err := noise(filepath.Join(to, fmt.Sprint("r", i)), i*1000003); err != nil {
			return err
		}
		if _, err := output(ctx, to, "cp", "-a", filepath.Join(strings.TrimSpace(goroot), "pkg"), fmt.Sprint("pkg", i)); err != nil {
			return err
		}
	}
	return dockerfile(dir, text)
}

func noise(name string, size int) error {
	b := make([]byte, size)
	rand.Read(b)
	return os.WriteFile(name, b, 0o644)
}

// change gives a small file new content, so that its layer is not cached anywhere.
func change(name string) func(dir string) error {
	return func(dir string) error { return noise(filepath.Join(dir, name), 64) }
}

// restamp changes the first bytes of a large file.
func restamp(name string) func(dir string) error {
	return func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteString(rand.Text())
		return err
	}
}

// touch sets the modification time of all files of a directory to now.
func touch(name string) func(dir string) error {
	return func(dir string) error {
		list, err := os.ReadDir(filepath.Join(dir, name))
		for _, e := range list {
			if err := os.Chtimes(filepath.Join(dir, name, e.Name()), time.Now(), time.Now()); err != nil {
				return err
			}
		}
		return err
	}
}
