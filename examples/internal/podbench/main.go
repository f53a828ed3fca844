// Podbench measures steps in the isolation modes that pods of different kinds have, and
// writes the results as a table.
//
// A build of one RUN is measured as a whole, in a pod, with a warm store. It is compared
// with the same command in a pod whose root file system is the image, without a builder:
// kaniko runs commands so. CPU time is that of all processes of the pod. The modes take
// turns; the first round is a warm-up, and the median of the others counts.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-build/cairn/cmd/cairn/podtest"
	"github.com/cairn-build/cairn/examples/internal/bases"
)

func main() {
	cairn := flag.String("cairn", "bin/cairn", "the `program` to measure")
	out := flag.String("out", "", "write the table to `FILE` rather than to standard output")
	runs := flag.Int("runs", 5, "how many `times` each workload is measured")
	only := flag.String("only", "", "measure only these `workloads`, as in fork,apt (default all)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *cairn, *out, *runs, *only); err != nil {
		fmt.Fprintln(os.Stderr, "podbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cairn, out string, runs int, only string) (err error) {
	if why := podtest.Missing("runc"); why != "" {
		return errors.New("pods cannot be started: " + why)
	}
	if runs < 1 {
		return fmt.Errorf("-runs %d: want 1 or more", runs)
	}
	chosen := slices.DeleteFunc(workloads(), func(w workload) bool {
		return only != "" && !slices.Contains(strings.Split(only, ","), w.name)
	})
	if len(chosen) == 0 {
		return fmt.Errorf("no workload is called %s", only)
	}
	if cairn, err = filepath.Abs(cairn); err != nil {
		return err
	}
	l, err := newLab(ctx, cairn)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.measureMemory(ctx); err != nil {
		return err
	}
	var results []result
	for _, w := range chosen {
		var r result
		if r, err = l.measure(ctx, w, runs); err != nil {
			err = fmt.Errorf("%s: %w", w.name, err)
			break
		}
		results = append(results, r)
	}
	if len(results) == 0 {
		return err
	}
	// An interrupted run keeps the workloads that were measured.
	text := l.report(results, runs)
	if out == "" {
		_, failed := os.Stdout.WriteString(text)
		return errors.Join(err, failed)
	}
	return errors.Join(err, os.WriteFile(out, []byte(text), 0o644))
}

// mode is a way to run a step.
type mode struct {
	name string
	pod  podtest.Pod
}

// native is the mode without a builder.
const native = "native"

// modes returns the modes and a kind of pod that has each.
func modes() []mode {
	return []mode{
		{native, podtest.Pod{Profile: podtest.Baseline}},
		{"namespaces", podtest.Pod{Profile: podtest.Userns}},
		{"rootless", podtest.Pod{Profile: podtest.Unconfined}},
		{"gvisor", podtest.Pod{Profile: podtest.Restricted}},
		{"chroot", podtest.Pod{Profile: podtest.Baseline}},
	}
}

// lab is a directory with a registry, the image and a volume for each mode.
type lab struct {
	dir, cairn, registry string
	modes                []mode
	missing              []string // modes that cannot be measured, with the reason
	memory               int64    // the most memory of cairn-gvisor during a RUN that sleeps, in bytes; 0 if unknown
	serve                *exec.Cmd
	log                  bytes.Buffer
}

func newLab(ctx context.Context, cairn string) (l *lab, err error) {
	l = &lab{cairn: cairn}
	if l.dir, err = os.MkdirTemp("/var/tmp", "cairn-podbench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
			err = fmt.Errorf("%w\n%s", err, &l.log)
		}
	}()
	if err := os.Chmod(l.dir, 0o755); err != nil {
		return l, err
	}
	if err := l.startRegistry(ctx); err != nil {
		return l, err
	}
	if err := l.makeImage(ctx); err != nil {
		return l, err
	}
	for _, m := range modes() {
		if err := l.prepare(ctx, m); err != nil {
			if ctx.Err() != nil {
				return l, context.Cause(ctx)
			}
			l.missing = append(l.missing, fmt.Sprintf("%s: %v", m.name, err))
			continue
		}
		l.modes = append(l.modes, m)
	}
	return l, nil
}

func (l *lab) close() {
	if l.serve != nil && l.serve.Process != nil {
		_ = l.serve.Process.Kill()
		_ = l.serve.Wait()
	}
	os.RemoveAll(l.dir)
}

// startRegistry starts Cairn's registry, which prints its address.
func (l *lab) startRegistry(ctx context.Context) error {
	l.serve = exec.CommandContext(ctx, l.cairn, "registry", "serve", "--addr", "127.0.0.1:0", "--dir", l.dir+"/registry")
	out, err := l.serve.StderrPipe()
	if err != nil {
		return err
	}
	if err := l.serve.Start(); err != nil {
		return err
	}
	l.registry, err = readAddress(out)
	return err
}

// makeImage builds the image of the workloads, and its tree for the native mode.
func (l *lab) makeImage(ctx context.Context) error {
	root := l.dir + "/bases"
	m := bases.Maker{Cairn: l.cairn, Root: root, Registry: l.registry, Log: &l.log}
	if why := bases.Missing("golang"); why != "" {
		return errors.New(why)
	}
	if err := m.Push(ctx, "golang"); err != nil {
		return err
	}
	if err := os.Mkdir(l.dir+"/image", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(l.dir+"/image/Dockerfile", []byte(base), 0o644); err != nil {
		return err
	}
	args := append([]string{"--root", root, "build", "--registry-mirror", l.registry, "--push", "-t", l.registry + "/library/bench",
		"-o", "type=local,dest=" + l.dir + "/tree"}, bases.ProxyArgs()...)
	return l.command(ctx, l.cairn, append(args, l.dir+"/image")...)
}

func (l *lab) command(ctx context.Context, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &l.log, &l.log
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// prepare makes the volume of a mode, and runs a command in it, which fills the store.
func (l *lab) prepare(ctx context.Context, m mode) error {
	volume := l.volume(m)
	if err := os.MkdirAll(volume, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(volume, 0o777); err != nil {
		return err
	}
	_, err := l.sample(ctx, m, workload{name: "prepare", command: "true", steps: 1})
	return err
}

func (l *lab) volume(m mode) string { return l.dir + "/volume-" + m.name }

// sample is one run of a workload.
type sample struct{ wall, cpu time.Duration }

// sample runs a workload once.
func (l *lab) sample(ctx context.Context, m mode, w workload) (sample, error) {
	p, args, err := l.pod(m, w)
	if err != nil {
		return sample{}, err
	}
	c, remove, err := p.Command(ctx, args...)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	began := time.Now()
	if err := c.Run(); err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", m.name, err, reason(log.String()))
	}
	return sample{time.Since(began), c.ProcessState.UserTime() + c.ProcessState.SystemTime()}, nil
}

// pod returns the pod and the command of a workload.
func (l *lab) pod(m mode, w workload) (podtest.Pod, []string, error) {
	p := m.pod
	if m.name == native {
		p.Tree = l.dir + "/tree"
		return p, []string{"/bin/sh", "-c", strings.Repeat(w.command+"\n", w.steps)}, nil
	}
	context := l.dir + "/" + w.name
	if err := os.MkdirAll(context, 0o755); err != nil {
		return p, nil, err
	}
	dockerfile := "FROM bench\n" + strings.Repeat("RUN "+w.command+"\n", w.steps)
	if err := os.WriteFile(context+"/Dockerfile", []byte(dockerfile), 0o644); err != nil {
		return p, nil, err
	}
	p.Programs = map[string]string{"cairn": l.cairn, "cairn-gvisor": filepath.Join(filepath.Dir(l.cairn), "cairn-gvisor")}
	p.Volumes = []podtest.Volume{{Host: context, Path: "/src", ReadOnly: true}, {Host: l.volume(m), Path: "/out"}}
	p.Env = []string{"CAIRN_REGISTRY_MIRROR=" + l.registry, "CAIRN_ROOT=/out/store"}
	return p, []string{"cairn", "--isolation", m.name, "build", "--no-cache", "--progress", "plain", "--output", "type=cacheonly", "/src"}, nil
}

// reason returns the error message in the output of a program, or its last line.
func reason(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		if strings.HasPrefix(line, "error: ") {
			return line
		}
	}
	return lines[len(lines)-1]
}
