package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// InitPath is the path of this program as process 1 of a command that is run with an init
// process. It is docker's.
const InitPath = "/sbin/docker-init"

// Init is process 1 of a command that is run with an init process, if the arguments of
// this process say so. It runs the command, forwards signals to it, waits for all
// processes that are left to it, and exits with the command's status.
func Init() {
	if len(os.Args) < 3 || os.Args[0] != InitPath || os.Args[1] != "--" {
		return
	}
	os.Exit(initProcess(os.Args[2:]))
}

func initProcess(args []string) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	program, err := exec.LookPath(args[0])
	if err != nil {
		return cannotStart(args[0], err)
	}
	attr := &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: os.Environ(), Sys: &unix.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil { // a terminal
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	child, err := os.StartProcess(program, args, attr)
	if err != nil {
		return cannotStart(args[0], err)
	}
	for {
		for s := range signals {
			if s == unix.SIGCHLD {
				break
			}
			if s != unix.SIGURG && s != unix.SIGTTIN && s != unix.SIGTTOU { // the first is Go's own
				_ = child.Signal(s)
			}
		}
		if status, ended := reap(child.Pid); ended {
			return status
		}
	}
}

// reap waits for all processes that have ended. It returns the exit status of a process
// and reports whether it was among them.
func reap(pid int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil || got <= 0:
			return code, ended
		case got == pid && status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case got == pid:
			code, ended = status.ExitStatus(), true
		}
	}
}

// cannotStart reports that a command cannot be started and returns the exit status that
// shells use.
func cannotStart(name string, err error) int {
	err = errors.Unwrap(err)
	fmt.Fprintf(os.Stderr, "error: exec %s: %v\n", name, err)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) || strings.Contains(err.Error(), "not found") {
		return 127
	}
	return 126
}
