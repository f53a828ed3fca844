package git

import (
	"bytes"
	"cmp"
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
	"time"

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

// transports lists the protocols that git may use, also for submodules.
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
	config := settings(cmp.Or(s.o.Patience, 5*time.Minute))
	if header != "" {
		// Git would send the header to the target of a redirect too.
		config = append(config, [2]string{"http." + scope(clean) + ".extraHeader", "Authorization: " + header},
			[2]string{"http." + scope(clean) + ".followRedirects", "false"})
	}
	g.env = append(g.env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, c := range config {
		g.env = append(g.env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, c[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, c[1]))
	}
	if s.o.Agent == nil {
		if overSSH(clean) {
			return nil, errors.New("fetching over ssh needs a key: pass on an ssh agent with --ssh default")
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

// overSSH reports whether a repository is fetched over ssh.
func overSSH(remote string) bool {
	u, err := url.Parse(remote)
	if err == nil && u.Scheme != "" && strings.Contains(remote, "://") {
		return u.Scheme == "ssh"
	}
	return scpStyle.MatchString(remote)
}

// environment returns the environment of git: only $PATH, proxies and certificates are
// taken from the environment of this process.
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

// sshCommand returns a command that uses the keys of the agent and the user's known hosts.
// It trusts unknown hosts, like BuildKit, as no user can be asked.
func sshCommand() string {
	known := os.DevNull
	if home := os.Getenv("HOME"); home != "" && !strings.ContainsAny(home, " \t\n'\"\\$`") {
		known += " " + home + "/.ssh/known_hosts"
	}
	return "ssh -F " + os.DevNull + " -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=60 -o IdentityFile=none -o StrictHostKeyChecking=accept-new -o 'UserKnownHostsFile=" + known + "'"
}

// settings returns the configuration that replaces the machine's.
func settings(patience time.Duration) [][2]string {
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
		{"http.lowSpeedLimit", "10"}, // bytes a second: more than the signs of life of a server that prepares a pack
		{"http.lowSpeedTime", strconv.Itoa(max(int(patience.Seconds()), 1))},
	}
}

// in returns the program for a repository and, if tree is not "", its work tree.
func (g *program) in(dir, tree string) *program {
	c := *g
	c.dir, c.tree = dir, tree
	return &c
}

// run runs git and returns its output. Its messages are written to the log; if it fails,
// the error has the last of them instead.
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
	text := source.Redact(messages.String())
	switch {
	case err == nil:
		_, _ = io.WriteString(g.log, text)
		return out.String(), nil
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("the program git is not installed (Debian: apt-get install git)")
	}
	if redirected.MatchString(text) {
		text += "the server redirects, and credentials are not sent to the new URL: use that URL\n"
	}
	return "", &gitError{text, err}
}

// redirected matches the message of git about a redirect that it must not follow.
var redirected = regexp.MustCompile(`returned error: 30[1278]\b`)

// bounded is a buffer that discards output beyond a limit: a server can cause output of any
// size.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	const most = 4 << 20
	b.Buffer.Write(p[:min(len(p), most-b.Len())])
	return len(p), nil
}

// start runs a command in its own process group, which ends with its context or with this
// process. The command's umask is 022. The umask belongs to a thread, which is not used
// again.
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

// gitError is a failure of git with its messages.
type gitError struct {
	text string
	err  error
}

func (e *gitError) Error() string {
	lines := strings.Split(strings.TrimSpace(e.text), "\n")
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

// hasMessage reports whether an error is a failure of git with one of the messages.
func hasMessage(err error, messages ...string) bool {
	var e *gitError
	if !errors.As(err, &e) {
		return false
	}
	for _, m := range messages {
		if strings.Contains(e.text, m) {
			return true
		}
	}
	return false
}
