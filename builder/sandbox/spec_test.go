package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestManyLayers(t *testing.T) {
	t.Parallel()
	base := image(t, nil)
	dir := t.TempDir()
	for _, text := range []bool{false, true} {
		s := spec(t, base, "cat /n; ls /files | wc -l")
		s.Lowers = nil
		for i := range 490 {
			layer := fmt.Sprintf("%s/%v/%d", dir, text, i)
			must(t, os.MkdirAll(layer+"/files", 0o755))
			must(t, os.WriteFile(fmt.Sprintf("%s/files/%d", layer, i), nil, 0o644))
			must(t, os.WriteFile(layer+"/n", fmt.Appendln(nil, i), 0o644))
			s.Lowers = append([]string{layer}, s.Lowers...)
		}
		s.Lowers = append(s.Lowers, base)
		o, err := trySpec(s, text)
		if err != nil || o.out != "489\n490\n" {
			t.Errorf("text %v: got %q %q, %v", text, o.out, o.err, err)
		}
	}
}

func TestLongPaths(t *testing.T) {
	t.Parallel()
	s := spec(t, image(t, nil), "true")
	deep := t.TempDir() + "/" + strings.Repeat("a", 200) + "/" + strings.Repeat("b", 200)
	s.Upper, s.Work = deep+"/upper", deep+"/work"
	s.Lowers = append([]string{deep + "/lower"}, s.Lowers...)
	for _, d := range []string{s.Upper, s.Work, s.Lowers[0]} {
		must(t, os.MkdirAll(d, 0o755))
	}
	run(t, s)
}

func TestBadSpecs(t *testing.T) {
	t.Parallel()
	root := image(t, nil)
	for _, test := range []struct {
		name string
		edit func(s *Spec)
		want string
	}{
		{"no upper", func(s *Spec) { s.Upper += "/missing" }, "mount overlay"},
		{"no lower", func(s *Spec) { s.Lowers[0] += "/missing" }, "mount overlay"},
		{"network", func(s *Spec) { s.Network = "bridge" }, `unknown network "bridge": use host or none`},
		{"host", func(s *Spec) { s.Hosts = []string{"x"} }, `host "x" does not have the form name:ip`},
		{"address", func(s *Spec) { s.Hosts = []string{"x:y"} }, `host "x:y"`},
		{"capability", func(s *Spec) { s.DropCapabilities = []string{"CAP_X"} }, `unknown capability "CAP_X"`},
		{"group", func(s *Spec) { s.Groups = []string{"nosuch"} }, `/etc/group of the image has no group "nosuch"`},
		{"mount type", func(s *Spec) { s.Mounts = []Mount{{Type: "ext4", Target: "/x"}} }, `type "ext4"`},
		{"mount source", func(s *Spec) { s.Mounts = []Mount{{Type: "bind", Source: "/no/such", Target: "/x"}} }, "no such file"},
		{"mount on root", func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/bin/.."}} }, "root directory"},
		{"mount on proc", func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/proc/x"}} }, "/proc cannot"},
		{"file over directory", func(s *Spec) {
			s.Mounts = []Mount{{Type: "bind", Source: "/etc/hostname", Target: "/bin"}}
		}, "mount on /bin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := spec(t, root, "true")
			test.edit(&s)
			_, err := try(s)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

func TestCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, spec(t, image(t, nil), "true")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
