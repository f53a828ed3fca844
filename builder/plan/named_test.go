package plan

import (
	"strings"
	"testing"
)

func TestContextName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"alpine":                         "alpine",
		"alpine:latest":                  "alpine",
		"docker.io/library/alpine":       "alpine",
		"alpine:3":                       "alpine:3",
		"localhost:5000/a/b":             "localhost:5000/a/b",
		"alpine::linux/aarch64":          "alpine::linux/arm64",
		"docker.io/library/x::linux/arm": "x::linux/arm/v7",
		"index.docker.io/library/a:b":    "a:b",
		"context":                        "context",
		"my-stage.1":                     "my-stage.1",
	} {
		if got, err := ContextName(in); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "Alpine", "a b", "::linux/amd64", "alpine::", "alpine::linux/what/is/this", "a@b", "-"} {
		if got, err := ContextName(in); err == nil {
			t.Errorf("%q is taken for %q", in, got)
		}
	}
}

// FuzzContextName looks for names that mean something else when they are read
// again.
func FuzzContextName(f *testing.F) {
	for _, s := range []string{"alpine", "docker.io/library/a:latest", "a::linux/arm64", "localhost:5000/a@sha256:" + strings.Repeat("0", 64), "::", "a::b::c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ContextName(s)
		if err != nil {
			return
		}
		if again, err := ContextName(name); err != nil || again != name {
			t.Errorf("%q is %q, which is %q, %v", s, name, again, err)
		}
	})
}
