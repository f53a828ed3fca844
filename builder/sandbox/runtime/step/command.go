package step

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/sandbox/launch"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/inroot"
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"
	"golang.org/x/sys/unix"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment returns env with a PATH and HOME if it does not set them.
func Environment(env []string, home string) []string {
	env = env[:len(env):len(env)]
	if !isSet(env, "PATH") {
		env = append(env, "PATH="+defaultPath)
	}
	if !isSet(env, "HOME") {
		env = append(env, "HOME="+home)
	}
	return env
}

func isSet(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}

// lookupEnv returns the last value of a variable, like most programs.
func lookupEnv(env []string, name string) (value string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// Executables returns the paths at which to look for a command, in order: the name
// itself if it has a slash, otherwise one path for each absolute folder of $PATH. A
// relative folder is skipped, as it would let files of the working directory be run. If
// no folder is left, the only path is one that cannot exist.
func Executables(name string, env []string) (list []string) {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	for dir := range strings.SplitSeq(lookupEnv(env, "PATH"), ":") {
		if strings.HasPrefix(dir, "/") {
			list = append(list, strings.TrimRight(dir, "/")+"/"+name)
		}
	}
	if len(list) == 0 {
		list = []string{"/" + name + "/"}
	}
	return list
}

// ExplainExec turns the failure to execute the command of a request in the tree at root
// into the error that other container runtimes report. It returns other errors as they
// are.
func ExplainExec(root int, req *wire.Request, err error) error {
	failure, ok := errors.AsType[*launch.Failure](err)
	if !ok || !failure.Exec {
		return err
	}
	const noInterpreter = "exec %q: its interpreter or loader is not in the image: %w"
	name := req.Args[0]
	switch {
	case failure.Errno != unix.ENOENT && failure.Errno != unix.ENOTDIR:
		return fmt.Errorf("exec %q: %w", failure.Attempt, failure.Errno)
	case !strings.Contains(name, "/"):
		// If the file exists, execve has missed its interpreter.
		for _, file := range Executables(name, Environment(req.Env, "")) {
			if inroot.Exists(root, file) {
				return fmt.Errorf(noInterpreter, file, failure.Errno)
			}
		}
		return &NotFoundError{name}
	case inroot.Exists(root, absolute(req.Dir, name)):
		return fmt.Errorf(noInterpreter, name, failure.Errno)
	}
	return fmt.Errorf("exec: %q: stat %s: %w", name, name, failure.Errno)
}

// absolute returns the absolute form of a name that is relative to dir.
func absolute(dir, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return dir + "/" + name
}

// NotFoundError is the error for a command that is in no folder of $PATH. It matches
// ENOENT.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("exec: %q: executable file not found in $PATH", e.Name)
}

// Unwrap returns ENOENT.
func (e *NotFoundError) Unwrap() error { return unix.ENOENT }

// MakeDir makes the working directory of a command if it is missing.
func MakeDir(root int, dir string) error {
	clean, found, err := inroot.Resolve(root, dir)
	if err != nil || found {
		return err
	}
	fd, err := inroot.MakeDirs(root, clean)
	if err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	return unix.Close(fd)
}
