package listing

import (
	"errors"
	"path"
	"strings"
	"syscall"
	"testing"
)

// links is a tree of symlinks, by path, in which every other path is a directory.
type links struct {
	at      string
	targets map[string]string
}

func (l *links) Root() { l.at = "." }

func (l *links) Step(name string, follow bool) (string, bool, error) {
	if name == ".." {
		l.at = path.Dir(l.at)
		return "", false, nil
	}
	to := path.Join(l.at, name)
	if name == "closed" {
		return "", false, syscall.EACCES
	}
	if target, ok := l.targets[to]; ok && follow {
		return target, true, nil
	}
	l.at = to
	return "", false, nil
}

func TestFollow(t *testing.T) {
	t.Parallel()
	targets := map[string]string{
		"abs": "/a/b", "rel": "../x", "d/up": "../../../y", "slash": "a/", "self": "self", "chain": "abs/c",
	}
	long := "end"
	for i := range MaxSymlinks {
		name := "l" + strings.Repeat("o", i)
		targets[name], long = long, name
	}
	targets["toolong"] = long
	tests := []struct {
		path string
		last bool
		want string
		err  error
	}{
		{"a/./b//c", true, "a/b/c", nil},
		{"../../a", true, "a", nil},
		{"abs", true, "a/b", nil},
		{"abs", false, "abs", nil},
		{"abs/", false, "abs", nil},
		{"abs/c", false, "a/b/c", nil},
		{"z/rel", true, "z/rel", nil},
		{"rel/z", true, "x/z", nil},
		{"d/up", true, "y", nil},
		{"slash/..", true, ".", nil},
		{"chain", true, "a/b/c", nil},
		{"self", true, "", syscall.ELOOP},
		{"self", false, "self", nil},
		{long, true, "end", nil},
		{"toolong", true, "", syscall.ELOOP},
		{"a/closed/b", true, "", syscall.EACCES},
	}
	for _, test := range tests {
		w := &links{at: ".", targets: targets}
		err := Follow(w, test.path, test.last)
		if !errors.Is(err, test.err) || err == nil && w.at != test.want {
			t.Errorf("%.20s: got %s, %v; want %s, %v", test.path, w.at, err, test.want, test.err)
		}
	}
}
