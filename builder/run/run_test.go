package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
)

func TestCommand(t *testing.T) {
	entry, none := "/own", ""
	for _, test := range []struct {
		o               Options
		entrypoint, cmd []string
		want            []string
	}{
		{Options{}, nil, []string{"a"}, []string{"a"}},
		{Options{}, []string{"e"}, []string{"a"}, []string{"e", "a"}},
		{Options{Args: []string{"x"}}, []string{"e"}, []string{"a"}, []string{"e", "x"}},
		{Options{Entrypoint: &entry}, []string{"e"}, []string{"a"}, []string{"/own"}},
		{Options{Entrypoint: &entry, Args: []string{"x"}}, []string{"e"}, nil, []string{"/own", "x"}},
		{Options{Entrypoint: &none, Args: []string{"x"}}, []string{"e"}, []string{"a"}, []string{"x"}},
	} {
		var cfg dockerspec.DockerOCIImageConfig
		cfg.Entrypoint, cfg.Cmd = test.entrypoint, test.cmd
		if got := test.o.command(cfg); !cmp.Equal(got, test.want) {
			t.Errorf("%+v with %q and %q: %q, want %q", test.o, test.entrypoint, test.cmd, got, test.want)
		}
	}
}

func TestSetEnv(t *testing.T) {
	env := []string{"A=1", "B=2"}
	if diff := cmp.Diff([]string{"A=1", "B=3", "C="}, setEnv(env, []string{"B=3", "C="})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if env[1] != "B=2" {
		t.Error("the image's environment was changed")
	}
}

func TestMount(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	got, err := mount(link + ":/x:ro")
	if err != nil || got.Type != "bind" || got.Source != dir || got.Target != "/x" || !got.ReadOnly {
		t.Errorf("%+v, %v", got, err)
	}
	for volume, want := range map[string]string{
		dir: "want HOST:PATH or HOST:PATH:ro", dir + ":/x:z": "want HOST:PATH", dir + ":x": "must be absolute", dir + "/no:/x": "no such file",
	} {
		if _, err := mount(volume); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", volume, err, want)
		}
	}
}

func TestSpec(t *testing.T) {
	img := layer.Image{Config: []byte(`{"config":{"Cmd":["sh"],"Env":["A=1"],"User":"u","WorkingDir":"/w"}}`)}
	s, err := (&Options{Env: []string{"A=2"}}).spec(img)
	if err != nil || s.User != "u" || s.Dir != "/w" || !cmp.Equal(s.Args, []string{"sh"}) || !cmp.Equal(s.Env, []string{"A=2"}) {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = (&Options{User: "v", Dir: "/v"}).spec(img)
	if err != nil || s.User != "v" || s.Dir != "/v" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := (&Options{Image: "x"}).spec(layer.Image{Config: []byte("{}")}); err == nil || !strings.HasPrefix(err.Error(), "x has neither ENTRYPOINT nor CMD") {
		t.Errorf("error %v", err)
	}
}

// In isolation mode chroot a volume can only be a copy.
func TestCheckMounts(t *testing.T) {
	r := &Runner{Images: &images.Manager{Isolation: sandbox.Isolation{Mode: sandbox.Chroot}}}
	if err := r.checkMounts([]sandbox.Mount{{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true}}); err != nil {
		t.Error(err)
	}
	if err := r.checkMounts([]sandbox.Mount{{Type: "bind", Source: "/a", Target: "/b"}}); err == nil || !strings.Contains(err.Error(), "use :ro for a copy") {
		t.Errorf("error %v", err)
	}
}
