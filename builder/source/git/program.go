package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/builder/source"
)

// program is git with the environment for one repository.
type program struct {
	remote string // without credentials
	dir    string // --git-dir; "" is none
	tree   string // --work-tree and the working directory; "" is none
	env    []string
	log    io.Writer
	close  func() error
}

// transports is what git may speak. It also holds for submodules.
const transports = "http:https:ssh:git"

// program prepares git for a repository. It must be closed.
func (s *Source) program(ctx context.Context, remote string, log io.Writer) (*program, error) {
	clean, header, err := s.credentials(remote)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = io.Discard
	}
	g := &program{remote: clean, log: log, close: func() error { return nil }}
	g.env = append(environment(), "GIT_ALLOW_PROTOCOL="+transports)
	config := settings()
	if header != "" {
		// Git itself would send the header to wherever the server redirects.
		config = append(config, [2]string{"http." + scope(clean) + ".extraHeader", "Authorization: " + header},
			[2]string{"http." + scope(clean) + ".followRedirects", "false"})
	}
	g.env = append(g.env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, c := range config {
		g.env = append(g.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, c[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, c[1]))
	}
	if s.o.Agent == nil {
		if overSSH(clean) {
			return nil, errors.New("it is fetched over ssh, which needs a key: pass on an ssh agent with --ssh default")
		}
		return g, nil
	}
	if overSSH(clean) {
		socket, done, err := s.o.Agent(ctx)
		if err != nil {
			return nil, err
		}
		g.env, g.close = append(g.env, "SSH_AUTH_SOCK="+socket), done
	}
	return g, nil
}

// overSSH tells a repository that is fetched over ssh.
func overSSH(remote string) bool {
	u, err := url.Parse(remote)
	if err == nil && u.Scheme != "" && strings.Contains(remote, "://") {
		return u.Scheme == "ssh"
	}
	return scpStyle.MatchString(remote)
}

// environment is all that git sees of this one: where programs and proxies are.
func environment() []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + os.DevNull,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ADVICE=0", "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND=" + sshCommand(),
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"} {
		for _, n := range []string{name, strings.ToLower(name)} {
			if v, ok := os.LookupEnv(n); ok {
				env = append(env, n+"="+v)
			}
		}
	}
	return env
}

// sshCommand uses the keys of the agent, and hosts that the user knows. As with
// BuildKit another host is trusted: there is nobody to ask.
func sshCommand() string {
	known := os.DevNull
	if home := os.Getenv("HOME"); home != "" && !strings.ContainsAny(home, " \t\n'\"\\$`") {
		known += " " + home + "/.ssh/known_hosts"
	}
	return "ssh -F " + os.DevNull + " -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=60 -o IdentityFile=none -o StrictHostKeyChecking=accept-new -o 'UserKnownHostsFile=" + known + "'"
}

// settings is the configuration in place of the machine's.
func settings() [][2]string {
	return [][2]string{
		{"core.hooksPath", os.DevNull},
		{"core.fsmonitor", "false"},
		{"core.autocrlf", "false"},
		{"core.logAllRefUpdates", "false"},
		{"gc.auto", "0"},
		{"maintenance.auto", "false"},
		{"init.defaultBranch", "master"},
		{"safe.directory", "*"},
		{"credential.helper", ""},
		{"http.lowSpeedLimit", "1"},
		{"http.lowSpeedTime", "120"},
	}
}

// in is the program in a repository and, if tree is not "", its work tree.
func (g *program) in(dir, tree string) *program {
	c := *g
	c.dir, c.tree = dir, tree
	return &c
}

// run runs git and gives what it prints. Its messages go to the log or, if it
// fails, the last of them into the error.
func (g *program) run(ctx context.Context, args ...string) (string, error) {
	if g.dir != "" {
		args = append([]string{"--git-dir", g.dir}, args...)
	}
	if g.tree != "" {
		args = append([]string{"--work-tree", g.tree}, args...)
	}
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir, cmd.Env = g.tree, g.env
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	var out, messages bounded
	cmd.Stdout = &out
	cmd.Stderr = &messages
	err := start(cmd)
	said := source.Redact(messages.String())
	switch {
	case err == nil:
		_, _ = io.WriteString(g.log, said)
		return out.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("the program git is not installed (Debian: apt-get install git)")
	}
	if moved.MatchString(said) {
		said += "it redirects, and credentials do not follow: name the URL that it is at now\n"
	}
	return "", &gitError{said, err}
}

// moved is what git says of a redirect that it is not to follow.
var moved = regexp.MustCompile(`returned error: 30[1278]\b`)

// bounded keeps as much of a program's output as anyone needs of git's: a server
// has a say in it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	const most = 4 << 20
	b.Buffer.Write(p[:min(len(p), most-b.Len())])
	return len(p), nil
}

// start runs a command in a group of its own, which ends with its context or
// with this process. Files that it makes have the usual modes, whatever the
// umask is here: that belongs to a thread, which is not used again.
func start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0o022)
			err = cmd.Run()
		}
		done <- err
	}()
	return <-done
}

// gitError is what git said when it failed.
type gitError struct {
	said string
	err  error
}

func (e *gitError) Error() string {
	lines := strings.Split(strings.TrimSpace(e.said), "\n")
	lines = lines[max(0, len(lines)-10):]
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	if text := strings.Join(lines, "; "); text != "" {
		return "git: " + text
	}
	return "git: " + e.err.Error()
}

func (e *gitError) Unwrap() error { return e.err }

// says tells whether an error is git's, with one of these messages.
func says(err error, messages ...string) bool {
	var e *gitError
	if !errors.As(err, &e) {
		return false
	}
	for _, m := range messages {
		if strings.Contains(e.said, m) {
			return true
		}
	}
	return false
}
