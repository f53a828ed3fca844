package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/diff"
	"github.com/cairn-build/cairn/layer/index"
	"github.com/cairn-build/cairn/layer/store"
)

// ExitError says that a RUN's command failed.
type ExitError struct {
	Args   []string
	Code   int
	Signal string // the name of the signal that ended it, if one did
	Why    string // the limit that it has come up against, in words; "" for none
}

func (e *ExitError) Error() string {
	how, why := fmt.Sprintf("did not complete successfully: exit code: %d", e.Code), ""
	if e.Signal != "" {
		how = fmt.Sprintf("was ended by %s (exit code: %d)", e.Signal, e.Code)
	}
	if e.Why != "" {
		why = ": " + e.Why
	}
	return fmt.Sprintf("process %q %s%s", strings.Join(e.Args, " "), how, why)
}

// TimeoutError says that a RUN's command was killed, with all that it had started.
type TimeoutError struct {
	Args  []string
	Limit time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("process %q was killed: it took longer than %v (--step-timeout)", strings.Join(e.Args, " "), e.Limit)
}

// timely runs a command, for as long as it may take.
func (w *Worker) timely(ctx context.Context, spec sandbox.Spec, op plan.Run) (sandbox.Result, error) {
	if w.StepTimeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, w.StepTimeout, &TimeoutError{op.Args, w.StepTimeout})
		defer stop()
	}
	return sandbox.Run(ctx, spec)
}

// prepare fetches and unpacks what a RUN needs.
func (w *Worker) prepare(ctx context.Context, j solve.Job[*Result], op plan.Run, v *progress.Vertex) (*mounted, error) {
	if err := w.Isolation.Refusal(); err != nil {
		return nil, err
	}
	if _, err := w.Trees(ctx, j.In[0]); err != nil {
		return nil, err
	}
	return w.mounts(ctx, j, op, v)
}

// run executes a command on an overlay of the trees below. Its upper directory
// is the new layer's tree.
func (w *Worker) run(ctx context.Context, j solve.Job[*Result], op plan.Run, v *progress.Vertex, with *mounted) (*work, error) {
	lowers, err := w.Trees(ctx, j.In[0])
	if err != nil {
		return nil, err
	}
	tree, err := w.Upper(ctx, j.In[0])
	if err != nil {
		return nil, err
	}
	stubs, err := w.stubsDir()
	if err != nil {
		tree.Close()
		return nil, err
	}
	spec := sandbox.Spec{
		Stubs:  stubs,
		Lowers: lowers, Upper: tree.Dir, Work: tree.Work,
		Mounts: with.mounts,
		Args:   op.Args, Env: slices.Concat(op.Env, op.Extra.Proxy, with.env), Dir: op.Dir, MakeDir: true, User: op.User,
		Hostname: op.Hostname, Network: op.Network, Hosts: op.Hosts,
		ShmSize: op.ShmSize, Limits: limits(op.Ulimits), Groups: w.Groups,
		Insecure: op.Insecure, Stdout: v.Writer(1), Stderr: v.Writer(2),
	}
	made, err := w.execute(ctx, j, spec, op)
	if err != nil {
		tree.Close()
		return nil, with.blame(err)
	}
	made.tree = tree
	return made, nil
}

func limits(list []plan.Ulimit) []sandbox.Limit {
	var out []sandbox.Limit
	for _, l := range list {
		out = append(out, sandbox.Limit(l))
	}
	return out
}

// Upper makes the directory that receives what is changed on a result's tree.
// Its root looks like the tree's: an upper directory's own replaces that.
func (w *Worker) Upper(ctx context.Context, below *Result) (*store.Tree, error) {
	root, err := w.rootOf(ctx, below)
	if err != nil {
		return nil, err
	}
	t, err := w.Store.NewTree()
	if err != nil {
		return nil, err
	}
	if err := diff.Prepare(t.Dir, root); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (w *Worker) rootOf(ctx context.Context, r *Result) (index.Entry, error) {
	view, err := w.View(ctx, r)
	if err != nil {
		return index.Entry{}, err
	}
	n, _ := view.Lookup(".")
	return n.Entry, nil
}

// stubsDir is where the sandbox keeps mount points, for all steps.
func (w *Worker) stubsDir() (dir string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stubs == "" {
		w.stubs, err = w.Store.TempDir("stubs")
	}
	return w.stubs, err
}

// execute runs the command and finds out what it changed.
func (w *Worker) execute(ctx context.Context, j solve.Job[*Result], spec sandbox.Spec, op plan.Run) (made *work, err error) {
	below := j.In[0]
	root, err := w.rootOf(ctx, below)
	if err != nil {
		return nil, err
	}
	if len(op.Files) > 0 {
		dir, err := w.scripts(op.Files)
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "bind", Source: dir, Target: "/dev/pipes", ReadOnly: true})
	}
	plain, err := w.plainly(ctx, below, &spec)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			plain.drop()
		}
	}()
	if spec.Chroot {
		w.alone.Lock()
		defer w.alone.Unlock()
	}
	end := w.span(j.Step, "runs the command")
	res, err := w.timely(ctx, spec, op)
	end()
	if err != nil {
		p, _ := layer.ParsePlatform(op.Platform) // the planner wrote it
		return nil, Foreign(err, p)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if res.ExitCode != 0 {
		err := &ExitError{op.Args, res.ExitCode, res.Signal, res.Reached}
		if full := w.Store.Full(); full != nil { // that is probably why
			return nil, fmt.Errorf("%w (%w)", err, full)
		}
		return nil, err
	}
	defer w.span(j.Step, "finds what changed")()
	o, err := w.recorded(ctx, below, diff.Options{Epoch: op.Epoch, Root: &root, Touched: res.Touched})
	if err != nil {
		return nil, err
	}
	made = &work{plain: plain}
	if plain == nil {
		made.changes.list, err = diff.Overlay(ctx, spec.Upper, spec.Lowers, o)
	} else {
		made.changes.list, plain.record, err = diff.Plain(ctx, spec.Root, plain.record, spec.Upper, spec.Lowers, o)
	}
	return made, err
}

// scripts writes heredocs that are executed themselves.
func (w *Worker) scripts(files []plan.RunFile) (string, error) {
	dir, err := w.Store.TempDir("scripts")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.Base(f.Name))
		if err := os.WriteFile(path, []byte(f.Data), 0o755); err != nil {
			return "", err
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return "", err
		}
	}
	return dir, nil
}
