package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/examples/internal/bases"
)

// composeApp builds and pushes the services of compose-app, reads them with skopeo and
// runs them.
func (l *lab) composeApp(t *testing.T) {
	l.base(t, "golang")
	dir := filepath.Join(t.TempDir(), "compose-app")
	if err := os.CopyFS(dir, os.DirFS("compose-app")); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) (stdout, stderr string) {
		cmd := command(l.cairn, append([]string{"--root", l.root(), "compose", "--project-directory", dir, "-f", filepath.Join(dir, "compose.yaml")}, args...)...)
		cmd.Env = append(cmd.Env, "REGISTRY="+l.registry, "VERSION=1.2.3", "SOURCE_DATE_EPOCH=1700000000")
		messages, err := os.Create(filepath.Join(t.TempDir(), "messages"))
		if err != nil {
			t.Fatal(err)
		}
		defer messages.Close()
		cmd.Stderr = messages
		out, err := cmd.Output()
		text, readErr := os.ReadFile(messages.Name())
		if err != nil || readErr != nil {
			t.Fatalf("%s: %v %v\n%s", cmd, err, readErr, text)
		}
		return string(out), string(text)
	}
	build := append([]string{"build", "--progress=plain", "--push", "--registry-mirror", l.registry}, bases.ProxyArgs()...)
	_, log := compose(build...)
	steps := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(#\d+) \[.*go build -trimpath`).FindAllStringSubmatch(log, -1) {
		steps[m[1]] = true
	}
	if len(steps) != 1 {
		t.Errorf("the programs are compiled by %d steps, want 1:\n%s", len(steps), log)
	}
	_, log = compose(build...)
	if strings.Contains(log, " run\n") {
		t.Errorf("the second build runs steps:\n%s", log)
	}
	images, _ := compose("config", "--images")
	if want := strings.ReplaceAll("REG/shop/api:1.2.3\nREG/shop/migrate:1.2.3\nREG/shop/web:1.2.3\n", "REG", l.registry); images != want {
		t.Errorf("images\n%s\nwant\n%s", images, want)
	}
	t.Run("skopeo inspect", func(t *testing.T) {
		need(t, "skopeo")
		for _, name := range append(strings.Fields(images), l.registry+"/shop/web:latest") {
			text := must(t, command("skopeo", "inspect", "--config", "--tls-verify=false", "docker://"+name))
			if !strings.Contains(text, `"com.docker.compose.project": "shop"`) || !strings.Contains(text, `"/program"`) {
				t.Errorf("%s has the config\n%s", name, text)
			}
		}
	})
	t.Run("cairn run", func(t *testing.T) {
		run := func(name string, env ...string) []string {
			args := []string{"--root", l.root(), "run"}
			for _, e := range env {
				args = append(args, "-e", e)
			}
			return append(args, l.registry+"/shop/"+name+":1.2.3")
		}
		if got := must(t, command(l.cairn, run("migrate")...)); got != "migrated to 1.2.3 under the example license\n" {
			t.Errorf("migrate printed %q", got)
		}
		port, apiPort := freePort(t), freePort(t)
		api := start(t, command(l.cairn, run("api", "PORT="+apiPort)...))
		if got := api.get(t, "http://127.0.0.1:"+apiPort); got != "api 1.2.3\n" {
			t.Errorf("api answers %q", got)
		}
		web := start(t, command(l.cairn, run("web", "PORT="+port, "API=http://127.0.0.1:"+apiPort)...))
		if got := web.get(t, "http://127.0.0.1:"+port); got != "web 1.2.3, api 1.2.3\n" {
			t.Errorf("web answers %q", got)
		}
		web.stop(t)
		api.stop(t)
	})
}
