package worker

import (
	"context"
	"errors"
	"time"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/snapshot"
	"github.com/cairn-build/cairn/builder/solve"
)

// Debugger halts a build at steps. Its methods are called concurrently. The step goes on
// when they return.
type Debugger interface {
	// MayStart is called before each step. It waits while the build halts.
	MayStart(context.Context) error
	// HaltsBefore reports whether the build is to halt before a step.
	HaltsBefore(*solve.Step) bool
	// Before is called with such a step, and with the result of one that is cached. Its
	// error is that of the step.
	Before(context.Context, *Halt) error
	// Failed is called with a RUN that failed. It reports whether the step is to be tried
	// again on the tree below it.
	Failed(context.Context, *Halt) (again bool)
}

// Place describes a step to people.
type Place struct {
	File  string // name of the Dockerfile
	Line  int    // the first of the instruction
	Stage string // "" if it is the only one and has no name
	Text  string // "[build 2/4] RUN make"
	// Folder is the name of the directory of the build context, "" if it is none.
	Folder string
	// Shell is a command without arguments in the tree below the step, with the environment
	// that a RUN has there.
	Shell op.Run
}

// Halt is a step at which a build halts. Its root and its mounts exist until the method
// of the Debugger returns: commands can be run in them with Spec and other arguments.
// The root is removed then.
type Halt struct {
	Step  *solve.Step
	Place Place
	Run   op.Run // the RUN, or else Place.Shell
	Spec  sandbox.Spec
	Root  *snapshot.Root

	Cached bool     // the root has the result of the step, which is cached
	Files  []string // that a COPY or ADD is about to copy, some of them
	More   int      // the number of others

	Err    error // of a step that failed
	Result sandbox.Result
	Took   time.Duration
	Tail   []string // the last lines of its output

	Missing []string // flags for secrets and agents that were not given

	stack *snapshot.Stack // below the root
	// inputs keeps the inputs of the mounts.
	inputs func(context.Context) ([]KeptInput, error)
	kept   bool // the root belongs to a layer
}

// errAgain is the error of a step that is to be tried again.
var errAgain = errors.New("the step is tried again")

// mayStart waits while the build halts.
func (w *Worker) mayStart(ctx context.Context) error {
	if w.Debugger == nil {
		return nil
	}
	return w.Debugger.MayStart(ctx)
}

// stopBefore halts before a RUN if the debugger asks for it. The root has been used then.
func (c *commands) stopBefore(ctx context.Context, h *Halt) (stopped bool, err error) {
	if c.debugger == nil || !c.debugger.HaltsBefore(h.Step) {
		return false, nil
	}
	restart := c.display.vertex(h.Step).Pause()
	if err := c.debugger.Before(ctx, h); err != nil {
		return true, err
	}
	restart()
	return true, errAgain
}

// stopAfter halts after a RUN that failed, and returns its error, or errAgain.
func (c *commands) stopAfter(ctx context.Context, h *Halt) error {
	if c.debugger == nil || ctx.Err() != nil {
		return h.Err
	}
	h.Tail = c.display.vertex(h.Step).Tail(shownLines)
	restart := c.display.vertex(h.Step).Pause()
	if c.debugger.Failed(ctx, h) {
		restart()
		return errAgain
	}
	return h.Err
}

// stopBeforeFiles halts before a step that runs no command if the debugger asks for it.
func (w *Worker) stopBeforeFiles(ctx context.Context, j solve.Job[*Result]) error {
	if w.Debugger == nil || !w.Debugger.HaltsBefore(j.Step) {
		return nil
	}
	h := &Halt{Step: j.Step}
	if err := w.listFiles(ctx, j, h); err != nil {
		return err
	}
	return w.commands.inspect(ctx, j.In[0].stack, h)
}

// Inspect halts at the result of a step that is cached.
func (w *Worker) Inspect(ctx context.Context, s *solve.Step, r *Result) error {
	return w.commands.inspect(ctx, r.stack, &Halt{Step: s, Cached: true})
}

// InspectBelow halts with the result of a step below, as before a step that is made
// without it.
func (w *Worker) InspectBelow(ctx context.Context, s *solve.Step, r *Result) error {
	return w.commands.inspect(ctx, r.stack, &Halt{Step: s})
}

// inspect halts with the tree of a stack.
func (c *commands) inspect(ctx context.Context, stack *snapshot.Stack, h *Halt) error {
	if err := c.isolation.CheckRun(); err != nil {
		return err
	}
	h.Place = c.display.steps[h.Step].Place
	h.Run = h.Place.Shell
	root, err := stack.NewRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	spec, err := c.spec(ctx, h.Step, h.Run, &mountSet{})
	if err != nil {
		return err
	}
	if err := root.Attach(&spec); err != nil {
		return err
	}
	if spec.Chroot {
		c.chroot.Lock()
		defer c.chroot.Unlock()
	}
	h.Spec, h.Root = spec, root
	restart := c.display.vertex(h.Step).Pause()
	if err := c.debugger.Before(ctx, h); err != nil {
		return err
	}
	restart()
	return nil
}

const (
	shownFiles = 10 // files of a COPY
	shownLines = 15 // lines of output
)

// listFiles lists the files that a step is about to copy.
func (w *Worker) listFiles(ctx context.Context, j solve.Job[*Result], h *Halt) error {
	for i, in := range j.Step.In[1:] {
		s, err := w.selections.files(ctx, j.In[i+1], in.Sel)
		if err != nil {
			return err
		}
		files, more := s.Files(shownFiles - len(h.Files))
		h.Files, h.More = append(h.Files, files...), h.More+more
	}
	return nil
}
