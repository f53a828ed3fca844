package git

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const foo, bk = "https://example.com/foo.git", "https://github.com/moby/buildkit.git"

// The cases of BuildKit's test, and more.
func TestParse(t *testing.T) {
	yes, no := true, false
	tests := []struct {
		text string
		want *Ref // nil: not a git URL
	}{
		{"https://example.com/", nil},
		{"https://example.com/foo", nil},
		{foo, &Ref{Remote: foo, Name: "foo"}},
		{foo + "#deadbeef", &Ref{Remote: foo, Name: "foo", Ref: "deadbeef"}},
		{foo + "#release/1.2", &Ref{Remote: foo, Name: "foo", Ref: "release/1.2"}},
		{foo + "/", nil},
		{foo + ".bar", nil},
		{"HTTPS://example.com/foo.git", &Ref{Remote: foo, Name: "foo"}},
		{"git://example.com/foo", &Ref{Remote: "git://example.com/foo", Name: "foo"}},
		{"ssh://git@example.com:22/foo", &Ref{Remote: "ssh://git@example.com:22/foo", Name: "foo"}},
		{"ftp://example.com/foo.git", nil},
		{"file:///foo.git", nil},
		{"custom.xyz/moby/buildkit.git", nil},
		{"https://github.com/moby/buildkit", nil},
		{"github.com/moby/buildkit", &Ref{Remote: "https://github.com/moby/buildkit", Name: "buildkit", Local: true}},
		{"github.com/moby/buildkit#master", &Ref{Remote: "https://github.com/moby/buildkit", Name: "buildkit", Ref: "master", Local: true}},
		{"github.com/moby/buildkit?tag=v1.0.0", &Ref{Remote: "https://github.com/moby/buildkit", Name: "buildkit", Ref: "refs/tags/v1.0.0", Local: true}},
		{"https://foo:bar@github.com/moby/buildkit.git", &Ref{Remote: "https://foo:bar@github.com/moby/buildkit.git", Name: "buildkit"}},
		{"git@github.com:moby/buildkit", &Ref{Remote: "git@github.com:moby/buildkit", Name: "buildkit"}},
		{"git@github.com:moby/buildkit.git?subdir=/subdir#v1.0.0", &Ref{Remote: "git@github.com:moby/buildkit.git", Name: "buildkit", Ref: "v1.0.0", Subdir: "subdir"}},
		{"git@h:a.git?%zz", nil},
		{foo + "#baz/qux:quux/quuz", &Ref{Remote: foo, Name: "foo", Ref: "baz/qux", Subdir: "quux/quuz"}},
		{"http://github.com/docker/docker.git:#branch", nil},
		{foo + "#:myfolder", &Ref{Remote: foo, Name: "foo", Subdir: "myfolder"}},
		{foo + "#v1:../../etc", &Ref{Remote: foo, Name: "foo", Ref: "v1", Subdir: "etc"}},
		{foo + "?subdir=../../etc", &Ref{Remote: foo, Name: "foo", Subdir: "etc"}},
		{foo + "#v1:/", &Ref{Remote: foo, Name: "foo", Ref: "v1"}},
		{"./.git", nil},
		{"../x@y:z", nil},
		{".git", nil},
		{"", nil},
		{foo + "?ref=v1.0.0&subdir=/subdir", &Ref{Remote: foo, Name: "foo", Ref: "v1.0.0", Subdir: "subdir"}},
		{foo + "?subdir=/subdir#v1.0.0", &Ref{Remote: foo, Name: "foo", Ref: "v1.0.0", Subdir: "subdir"}},
		{foo + "?tag=v1", &Ref{Remote: foo, Name: "foo", Ref: "refs/tags/v1"}},
		{foo + "?tag=refs/tags/v1", &Ref{Remote: foo, Name: "foo", Ref: "refs/tags/v1"}},
		{foo + "?branch=v1.0", &Ref{Remote: foo, Name: "foo", Ref: "refs/heads/v1.0"}},
		{foo + "?ref=v1&subdir=a#v1:a", &Ref{Remote: foo, Name: "foo", Ref: "v1", Subdir: "a"}},
		{foo + "?commit=deadbeef", &Ref{Remote: foo, Name: "foo", Checksum: "deadbeef"}},
		{foo + "?keep-git-dir", &Ref{Remote: foo, Name: "foo", KeepGitDir: &yes}},
		{foo + "?keep-git-dir=0&submodules=false", &Ref{Remote: foo, Name: "foo", KeepGitDir: &no, Submodules: &no}},
		{foo + "?mtime=commit", &Ref{Remote: foo, Name: "foo", MTime: "commit"}},
		{foo + "?fetch-by-commit&checksum=deadbeef#refs/heads/b", &Ref{Remote: foo, Name: "foo", Ref: "refs/heads/b", Checksum: "deadbeef", FetchByCommit: true}},
		{foo + "?fetch-by-commit=false", &Ref{Remote: foo, Name: "foo"}},
	}
	for _, test := range tests {
		got, err := Parse(test.text)
		switch {
		case test.want == nil:
			if !errors.Is(err, ErrNotGit) {
				t.Errorf("%s: %+v, %v", test.text, got, err)
			}
		case err != nil:
			t.Errorf("%s: %v", test.text, err)
		default:
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("%s: (-want +got)\n%s", test.text, d)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		bk + "?ref=v1.0.0#v1.2.3":       `ref conflicts: "v1.2.3" vs "v1.0.0"`,
		bk + "?ref=v1.0.0&tag=v1.2.3":   `ref conflicts: "v1.0.0" vs "refs/tags/v1.2.3"`,
		bk + "?subdir=a#:b":             `subdir conflicts: "b" vs "a"`,
		bk + "?tag=v1.0.0&branch=v1.0":  "branch conflicts with tag",
		bk + "?branch=a#b":              `ref conflicts: "b" vs "refs/heads/a"`,
		bk + "?ref=a&ref=b":             `query "ref" has multiple values`,
		bk + "?ref=":                    `query "ref" has no value`,
		bk + "?mtime=invalid":           `invalid mtime value: "invalid" (must be "checkout" or "commit")`,
		bk + "?fetch-by-commit=invalid": `invalid fetch-by-commit value: "invalid"`,
		bk + "?submodules=x":            `invalid submodules value: "x"`,
		bk + "?keep-git-dir=x":          `invalid keep-git-dir value: "x"`,
		bk + "?invalid=123":             `unexpected query "invalid"`,
		bk + "?checksum=xyz":            "invalid checksum xyz for Git URL, expected hex commit hash",
		bk + "#--upload-pack=evil":      `invalid git ref "--upload-pack=evil"`,
		bk + "?ref=a:b":                 `invalid git ref "a:b"`,
		bk + "#a%0Ab":                   `invalid git ref "a\nb"`,
		bk + "#a..b":                    `invalid git ref "a..b"`,
		"ssh://-oProxyCommand=evil/a":   `invalid git repository "ssh://-oProxyCommand=evil/a"`,
		"git://":                        `invalid git repository "git://"`,
		"https:///a.git":                `invalid git repository "https:///a.git"`,
		"git@-oProxyCommand:a":          `invalid git repository "git@-oProxyCommand:a"`,
	} {
		if _, err := Parse(text); err == nil || err.Error() != want {
			t.Errorf("%s: error %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"https://h/a.git?ref=a&subdir=../b#c:d", "git@h:a?tag=v1#x", "ssh://-h/a", "git://h/a#-x:..", "github.com/a/b#c",
		"http://a:b@h/x.git?keep-git-dir&submodules=0&mtime=commit", "a@b:\n", "https://h/%0a.git",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if strings.HasPrefix(r.Remote, "-") || strings.HasPrefix(r.Ref, "-") || strings.ContainsAny(r.Ref+r.Remote, "\n\r\x00") {
			t.Errorf("%q: git could misread %+v", text, r)
		}
		if strings.HasPrefix(r.Subdir, "/") || strings.HasPrefix(r.Subdir+"/", "../") || strings.Contains("/"+r.Subdir+"/", "/../") {
			t.Errorf("%q: subdirectory %q", text, r.Subdir)
		}
		if r.FetchByCommit || r.Local {
			return
		}
		// The result can be parsed again.
		again, err := Parse(r.Remote)
		if err != nil || again.Remote != r.Remote {
			t.Errorf("%q: %q: %+v, %v", text, r.Remote, again, err)
		}
	})
}

// FuzzAnswer parses the output of ls-remote.
func FuzzAnswer(f *testing.F) {
	const id = "0123456789012345678901234567890123456789"
	f.Add("ref: refs/heads/main\tHEAD\n"+id+"\tHEAD\n", "main")
	f.Add(id+"\trefs/tags/v1\n"+id+"\trefs/tags/v1^{}\n", "v1")
	f.Add("ref: refs/heads/--upload-pack=x\n\tHEAD", "../..")
	f.Add("ref: refs/heads/a b\tHEAD\n-x\tHEAD\n", "refs/heads/x")
	f.Fuzz(func(t *testing.T, out, ref string) {
		if p, err := defaultBranch(out); err == nil && (!commitID(p.Object) || !strings.HasPrefix(p.Ref, "refs/heads/") || strings.ContainsFunc(p.Ref, notInRef)) {
			t.Errorf("the default branch is %+v", p)
		}
		p, err := pick(out, ref)
		if err == nil && (!commitID(p.Object) || p.Commit != "" && !commitID(p.Commit)) {
			t.Errorf("%q is %+v", ref, p)
		}
	})
}
