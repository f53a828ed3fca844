package bake_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/cairn-build/cairn/examples/internal/peers"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// TestRemoteLikeBuildx compares definitions from a repository and a web server. The first
// case of remote.txtar has the files of both; those in cwd are in the working directory.
// $GIT and $WEB are the addresses. With -update, buildx reads the definitions through a
// BuildKit daemon.
func TestRemoteLikeBuildx(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("root is needed: an ordinary user's store is opened by a program of its own")
	}
	examples := readExamples(t, "remote")
	git, web, cwd := serve(t, examples[0].files)
	addresses := strings.NewReplacer("$GIT", git, "$WEB", web)
	names := strings.NewReplacer(git, "$GIT", web, "$WEB")
	if *update {
		buildx := remoteBuildx(t)
		for _, e := range examples[1:] {
			e.want = names.Replace(runIn(t, cwd, e, exec.Command(buildx, printArgs(e, addresses)...)))
		}
		writeExamples(t, "remote", examples)
	}
	t.Setenv("CAIRN_ROOT", t.TempDir())
	for _, e := range examples[1:] {
		t.Run(e.name, func(t *testing.T) {
			at := *e
			at.args, at.files = nil, nil
			for _, arg := range e.args {
				at.args = append(at.args, addresses.Replace(arg))
			}
			at.dir = cwd
			got, message := runCairn(t, &at)
			if diff := cmp.Diff(parse(t, e.want), parse(t, names.Replace(got))); diff != "" {
				t.Errorf("%s: (-buildx +cairn)\n%s\n%s", strings.Join(e.args, " "), diff, message)
			}
		})
	}
}

// serve starts a server for a repository with files, and for the files themselves.
func serve(t *testing.T, files []txtar.File) (git, web, cwd string) {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	exe, err := exec.Command(program, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := unpack(t, &example{files: files})
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@example", "commit", "-qm", "1"}, {"branch", "v1"}, {"update-server-info"},
	} {
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(exe)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	static := http.FileServer(http.Dir(root))
	server := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.git/") {
			backend.ServeHTTP(w, r)
			return
		}
		static.ServeHTTP(w, r)
	}))
	cwd = filepath.Join(root, "cwd")
	return server.URL + "/.git", server.URL, cwd
}

func printArgs(e *example, addresses *strings.Replacer) []string {
	args := []string{"bake", "--print", "--progress=quiet"}
	for _, arg := range e.args {
		args = append(args, addresses.Replace(arg))
	}
	return args
}

// remoteBuildx returns buildx with a BuildKit daemon as its builder.
func remoteBuildx(t *testing.T) string {
	t.Helper()
	buildx, err := peers.Buildx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	daemon, err := peers.StartBuildKit(context.Background(), dir, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Stop)
	t.Setenv("BUILDX_CONFIG", t.TempDir())
	t.Setenv("BUILDX_BUILDER", "peer")
	if out, err := exec.Command(buildx, "create", "--name", "peer", "--driver", "remote", daemon.Address()).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return buildx
}

// runIn runs a command in a directory with the environment of a case.
func runIn(t *testing.T, dir string, e *example, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Dir, cmd.Env = dir, append(os.Environ(), e.env...)
	out, err := cmd.Output()
	if errors.As(err, new(*exec.ExitError)) {
		return failure
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
