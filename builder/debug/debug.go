// Package debug opens a shell in the tree of a step that failed, or is about to run.
//
// The shell has the surroundings of the step's command: its tree with the changes so far, its
// environment, user, mounts, network and limits. Its changes are never a result: if the
// shell ends with status 0, the step is tried again on the tree below it.
package debug

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/worker"
)

// Options configure a [Shells].
type Options struct {
	Progress *progress.Reporter
	In, Out  *os.File // the terminal
	Color    bool
	Mode     sandbox.Mode
	OnError  bool   // a shell for each RUN that fails
	GoesOn   bool   // the build goes on after a failed step
	Program  string // of the shell; "": one that the step has
	// Tools, unless nil, returns the mount of an image with programs, without a target, and
	// a function that releases it.
	Tools func(context.Context) (sandbox.Mount, func(), error)
}

// Shells opens shells, one at a time. It implements [worker.Debugger].
type Shells struct {
	Options
	turn chan struct{} // has an element while a shell is open

	mu   sync.Mutex
	open chan struct{} // closed when no shell is open
	over bool          // the build has failed: open no other shell
}

var _ worker.Debugger = (*Shells)(nil)

// New returns a Shells.
func New(o Options) *Shells {
	s := &Shells{Options: o, turn: make(chan struct{}, 1), open: make(chan struct{})}
	close(s.open)
	return s
}

// BreakError is the end of a build at a break.
type BreakError struct {
	Place  worker.Place
	Status int // of the shell
}

func (e *BreakError) Error() string {
	return fmt.Sprintf("the build was ended at the break: the shell exited with status %d (exit 0 goes on)", e.Status)
}

// MayStart implements [worker.Debugger].
func (s *Shells) MayStart(ctx context.Context) error {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// HaltsBefore implements [worker.Debugger]. The session knows the breaks.
func (s *Shells) HaltsBefore(*solve.Step) bool { return false }

// enter waits for the terminal. It returns false if no shell shall be opened.
func (s *Shells) enter(ctx context.Context) bool {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || ctx.Err() != nil {
		<-s.turn
		return false
	}
	s.open = make(chan struct{})
	return true
}

// leave gives the terminal back. After the last shell of a build no other is opened.
func (s *Shells) leave(last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = s.over || last
	close(s.open)
	<-s.turn
}

// Failed implements [worker.Debugger].
func (s *Shells) Failed(ctx context.Context, h *worker.Halt) (again bool) {
	if !s.OnError || !s.enter(ctx) {
		return false
	}
	defer func() { s.leave(!again && !s.GoesOn) }()
	defer s.Progress.Suspend()()
	page := s.describe(ctx, h)
	status, err := s.shell(ctx, h, page)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		s.say("no shell can be opened in the failed step: %v", err)
		return false
	case status == 0:
		s.say("trying the step again, on the tree before it")
		return true
	}
	s.say("the shell exited with status %d: the step has failed", status)
	return false
}

// Before implements [worker.Debugger].
func (s *Shells) Before(ctx context.Context, h *worker.Halt) error {
	if !s.enter(ctx) {
		return context.Canceled
	}
	var last bool
	defer func() { s.leave(last) }()
	defer s.Progress.Suspend()()
	status, err := s.shell(ctx, h, s.describe(ctx, h))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("open a shell at the break: %w", err)
	case status != 0:
		last = !s.GoesOn
		return &BreakError{h.Place, status}
	case h.Cached:
		s.say("going on")
	default:
		s.say("going on with the step, on the tree before it")
	}
	return nil
}

// say prints a line of the program itself.
func (s *Shells) say(format string, args ...any) {
	// The error cannot be reported: the terminal is gone.
	_, _ = fmt.Fprintf(s.Out, "cairn: "+format+"\n", args...)
}

var errNoShell = errors.New("the image has no shell that can be started: --shell-image IMAGE, such as busybox:uclibc, adds one with static programs, and --shell PROGRAM names another")
