package dockerfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/version"
)

func TestSyntaxIsThatOfTheParser(t *testing.T) {
	t.Parallel()
	if want, got := version.Version(), fmt.Sprintf("%d.%d.", syntaxMajor, syntaxMinor); !strings.HasPrefix(want, got) {
		t.Errorf("built in is %s, the parser's is %s", got, want)
	}
}

func TestSyntax(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		head, syntax string
		at           int // the line of a warning; 0: none
		refused      bool
	}{
		{head: ""},
		{head: "# a comment\n# syntax=x"},
		{head: "# syntax=docker/dockerfile:1", syntax: "docker/dockerfile:1"},
		{head: "#syntax = docker/dockerfile:1.28.3 with words", syntax: "docker/dockerfile:1.28.3"},
		{head: "# escape=\\\n# SYNTAX=docker.io/docker/dockerfile-upstream:1.4@sha256:abc", syntax: "docker.io/docker/dockerfile-upstream:1.4@sha256:abc"},
		{head: "# syntax=mirror:5000/docker/dockerfile", syntax: "mirror:5000/docker/dockerfile"},
		{head: "# syntax=docker/dockerfile:labs", syntax: "docker/dockerfile:labs"},
		{head: "# syntax=docker/dockerfile:1.20-labs", syntax: "docker/dockerfile:1.20-labs"},
		{head: "# syntax=dockerfile.v0", syntax: "dockerfile.v0"},
		{head: "# syntax=docker/dockerfile:1.29", syntax: "docker/dockerfile:1.29", at: 1},
		{head: "#!/usr/bin/env build\n# check=skip=all\n# syntax=docker/dockerfile:1.29-labs", syntax: "docker/dockerfile:1.29-labs", at: 3},
		{head: "\ufeff# syntax=docker/dockerfile:2", syntax: "docker/dockerfile:2", at: 1},
		{head: "# syntax=docker/dockerfile-upstream:master-labs", syntax: "docker/dockerfile-upstream:master-labs", at: 1},
		{head: "# syntax=docker/other:1", refused: true},
		{head: "// syntax=example/frontend", refused: true},
		{head: `{"syntax": "example/frontend"}`, refused: true},
	} {
		text := []byte(c.head + "\nFROM scratch\n")
		if strings.HasPrefix(c.head, "{") {
			text = []byte(c.head)
		}
		f, err := Parse("Dockerfile", text)
		if c.refused {
			if err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:1: not supported by cairn: the frontend ") {
				t.Errorf("%q: got %v", c.head, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.head, err)
			continue
		}
		var at []Range
		for _, w := range f.Advice {
			at = append(at, w.Ranges...)
		}
		if c.at > 0 && !cmp.Equal(at, []Range{{c.at, c.at}}) || c.at == 0 && at != nil || f.Syntax != c.syntax {
			t.Errorf("%q: got %q, warnings at %v", c.head, f.Syntax, at)
		}
	}
}

func TestSyntaxOption(t *testing.T) {
	t.Parallel()
	text := []byte("# syntax=example/frontend\nFROM scratch\n")
	for option, want := range map[string]string{
		" docker/dockerfile:1 --x": "",
		"docker/dockerfile:9":      "BUILDKIT_SYNTAX=docker/dockerfile:9 may be newer",
		"other":                    `Dockerfile: not supported by cairn: the frontend "other" that BUILDKIT_SYNTAX= names`,
	} {
		f, err := ParseWith("Dockerfile", text, Options{Syntax: &option})
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case len(f.Advice) > 0:
			got = f.Advice[0].Detail
		}
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: got %s", option, got)
		}
	}
}
