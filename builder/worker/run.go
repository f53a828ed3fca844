package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/once"
	"github.com/cairn-build/cairn/layer/store"
)

// ExitError reports that the command of a RUN failed.
type ExitError struct {
	Args   []string
	Code   int
	Signal string // the name of the signal that ended it; "" if it exited
	Why    string // the limit that it has reached; "" for none
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("did not complete successfully: exit code: %d", e.Code)
	if e.Signal != "" {
		how = fmt.Sprintf("was ended by %s (exit code: %d)", e.Signal, e.Code)
	}
	return fmt.Sprintf("process %q %s%s", strings.Join(e.Args, " "), how, e.why())
}

// Brief returns the text of the error without the command.
func (e *ExitError) Brief() string {
	if e.Signal != "" {
		return fmt.Sprintf("the command was ended by %s (exit code %d)%s", e.Signal, e.Code, e.why())
	}
	return fmt.Sprintf("the command failed with exit code %d%s", e.Code, e.why())
}

func (e *ExitError) why() string {
	if e.Why == "" {
		return ""
	}
	return ": " + e.Why
}

// TimeoutError reports that the command of a RUN was killed, with all its children,
// because it took too long.
type TimeoutError struct {
	Args  []string
	Limit time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("process %q was killed: it took longer than %v (--step-timeout)", strings.Join(e.Args, " "), e.Limit)
}

// commands runs the commands of RUNs in the sandbox.
type commands struct {
	store       *store.Store
	layers      *snapshot.Manager
	isolation   sandbox.Isolation
	resolvConf  string
	credentials map[string]Credentials // by origin
	selections  *selections
	caches      *cacheMounts
	display     *display
	debugger    Debugger // may be nil
	copies      once.Map[selectionKey, *contextCopy]
	mountPoints once.Value[string] // where the sandbox keeps mount points of all steps
	chroot      sync.Mutex         // held by a command in a chroot, which moves directories
	noProc      sync.Once          // for the warning about /proc
}

// run carries out a RUN on the stack below.
func (c *commands) run(ctx context.Context, j solve.Job[*Result], o op.Run, mounts *mountSet) (_ made, err error) {
	root, err := j.In[0].stack.NewRoot(ctx)
	if err != nil {
		return made{}, err
	}
	halt := &Halt{Step: j.Step, Place: c.display.steps[j.Step].Place, Run: o, Root: root, stack: j.In[0].stack}
	halt.inputs = func(ctx context.Context) ([]KeptInput, error) { return c.keepInputs(ctx, j, o) }
	defer func() {
		if err != nil && !halt.kept {
			root.Close()
		}
	}()
	spec, err := c.spec(ctx, j.Step, o, mounts)
	if err != nil {
		return made{}, err
	}
	if err := root.Attach(&spec); err != nil {
		return made{}, err
	}
	if spec.Chroot {
		c.chroot.Lock()
		defer c.chroot.Unlock()
		c.noProc.Do(func() {
			if text := c.isolation.WarnNoProc(); text != "" {
				c.display.vertex(j.Step).Warn("%s", text)
			}
		})
	}
	halt.Spec = spec
	if stopped, err := c.stopBefore(ctx, halt); stopped {
		return made{}, err
	}
	began := time.Now()
	end := c.display.span(j.Step, "runs the command")
	res, err := c.execute(ctx, spec, o, c.display.steps[j.Step].Limits.Timeout)
	c.display.uses(j.Step, Usage{res.CPU, res.Memory})
	end()
	if err != nil {
		err = c.withHint(ctx, mounts.explain(err), o, j.In[0].stack, c.display.vertex(j.Step))
		halt.Result, halt.Err, halt.Took = res, err, time.Since(began)
		return made{}, c.stopAfter(ctx, halt)
	}
	defer c.display.span(j.Step, "finds what changed")()
	changes, err := root.Changes(ctx, res, o.Epoch)
	if err != nil {
		return made{}, err
	}
	return made{changes: changes, root: root}, nil
}

// spec describes the command to the sandbox. The root is missing.
func (c *commands) spec(ctx context.Context, step *solve.Step, o op.Run, mounts *mountSet) (sandbox.Spec, error) {
	points, err := c.mountPoints.Do(ctx, func() (string, error) { return c.store.TempDir("stubs") })
	if err != nil {
		return sandbox.Spec{}, err
	}
	v := c.display.vertex(step)
	spec := sandbox.Spec{
		MountPoints: points,
		Mounts:      mounts.mounts,
		Args:        o.Args, Env: slices.Concat(o.Env, o.Extra.Proxy, mounts.env), Dir: o.Dir, MakeDir: true, User: o.User,
		Hostname: o.Hostname, Network: o.Network, Hosts: o.Hosts, NoHosts: o.NoHosts, Groups: o.Groups, DropCapabilities: o.DropCaps, ResolvConf: c.resolvConf,
		ShmSize: o.ShmSize, Cgroups: c.display.steps[step].Limits.Cgroups,
		Insecure: o.Insecure, Stdout: v.Writer(1), Stderr: v.Writer(2),
	}
	for _, l := range o.Ulimits {
		spec.Ulimits = append(spec.Ulimits, sandbox.Ulimit(l))
	}
	return spec, nil
}

// execute runs the command. A command that fails is an error.
func (c *commands) execute(ctx context.Context, spec sandbox.Spec, o op.Run, timeout time.Duration) (sandbox.Result, error) {
	limited := ctx
	if timeout > 0 {
		var stop context.CancelFunc
		limited, stop = context.WithTimeoutCause(ctx, timeout, &TimeoutError{o.Args, timeout})
		defer stop()
	}
	res, err := sandbox.Run(limited, spec)
	switch {
	case err != nil:
		p, _ := layer.ParsePlatform(o.Platform) // the planner has checked it
		return res, ExplainPlatform(err, p)
	case ctx.Err() != nil:
		return res, context.Cause(ctx)
	case res.ExitCode != 0:
		err := error(&ExitError{o.Args, res.ExitCode, res.Signal, res.LimitReached})
		if full := c.store.Full(); full != nil { // the probable reason
			err = fmt.Errorf("%w (%w)", err, full)
		}
		return res, err
	}
	return res, nil
}

// scripts writes the heredocs of a RUN that are executed as files, and returns their
// directory.
func (c *commands) scripts(files []op.RunFile) (string, error) {
	dir, err := c.store.TempDir("scripts")
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
		if err := os.Chmod(path, 0o755); err != nil { // whatever the umask
			return "", err
		}
	}
	return dir, nil
}
