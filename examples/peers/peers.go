// Package peers runs the programs that Cairn is held against: BuildKit, and
// whatever else serves a test or a benchmark beside it.
//
// BuildKit is compiled from its Go module, once for a version, into the user's
// cache folder. Each daemon has a folder of its own and ends with its caller.
package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Process is a program that runs until it is stopped.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of its end, once done is closed
}

// Start starts a program whose output goes to a file of dir, and waits until it
// is ready.
func Start(cmd *exec.Cmd, dir string, ready func() bool) (*Process, error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(cmd.Path)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	for !ready() {
		select {
		case <-p.done:
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("%s ended: %v\n%s", cmd, p.err, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return p, nil
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop asks the program to end, and waits until it has.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	<-p.done
}
