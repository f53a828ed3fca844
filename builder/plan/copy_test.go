package plan

import (
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
)

func TestDestination(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		workdir, dest, want string
		dir                 bool
	}{
		{"/", "a", "/a", false},
		{"/", "/", "/", true},
		{"/w", "", "/w", true},
		{"/w", ".", "/w", true},
		{"/w", "./", "/w", true},
		{"/w", "a/", "/w/a", true},
		{"/w", "a/.", "/w/a", true},
		{"/w", "a/..", "/w", false},
		{"/w", "..", "/", false},
		{"/w", "../../../a", "/a", false},
		{"/w", "/a//b", "/a/b", false},
		{"/w", "a.", "/w/a.", false},
	} {
		if got, dir := destination(test.workdir, test.dest); got != test.want || dir != test.dir {
			t.Errorf("%q in %s is %s, a directory: %t; want %s, %t", test.dest, test.workdir, got, dir, test.want, test.dir)
		}
	}
}

func TestNumericOwners(t *testing.T) {
	t.Parallel()
	for chown, want := range map[string]bool{
		"": false, "0": false, "1000:1000": false, "root": false, "root:root": false, "1:": false,
		"app": true, "1:staff": true, "app:1": true, "99999999999": true, ":1": true,
	} {
		if got := byName(chown); got != want {
			t.Errorf("%q has names: %t, want %t", chown, got, want)
		}
	}
}

func TestCopySource(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for _, test := range []struct {
		name string
		copy copying
		src  string
		want op.CopySource
	}{
		{"COPY", copying{word: "COPY"}, "a", op.CopySource{Path: "/a"}},
		{"COPY of an archive", copying{word: "COPY"}, "a.tar", op.CopySource{Path: "/a.tar"}},
		{"ADD", copying{word: "ADD"}, "a", op.CopySource{Path: "/a", Unpack: true}},
		{"ADD --unpack", copying{word: "ADD", unpack: &yes}, "a", op.CopySource{Path: "/a", Unpack: true}},
		{"ADD --unpack=false", copying{word: "ADD", unpack: &no}, "a", op.CopySource{Path: "/a"}},
		{"above the root", copying{word: "COPY"}, "../../a/../b/", op.CopySource{Path: "/b"}},
		{"parents", copying{parents: true}, "a/b", op.CopySource{Path: "/", Parents: true, Include: "a/b", Required: true}},
		{"parents after a pivot", copying{parents: true}, "a/./b/c", op.CopySource{Path: "/a", Parents: true, Include: "b/c", Required: true}},
		{"first of two pivots", copying{parents: true}, "a/./b/./c", op.CopySource{Path: "/a", Parents: true, Include: "b/c", Required: true}},
		{"parents with a wildcard", copying{parents: true}, "a/*.go", op.CopySource{Path: "/", Parents: true, Include: "a/*.go"}},
		{"wildcard before the pivot", copying{parents: true}, "a*/./b", op.CopySource{Path: "/a*", Parents: true, Include: "b"}},
	} {
		if got := test.copy.source(test.src); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestCopyHistory(t *testing.T) {
	t.Parallel()
	checkPlans(t, historyView, []planCase{
		{name: "flags in a fixed order", text: "FROM scratch\nCOPY --chmod=755 --chown=1 --parents a b /\n", want: "L COPY --parents --chown=1 --chmod=755 a b / # buildkit\n"},
		{name: "without from, link and exclude", text: "FROM scratch\nCOPY --from=bare --link --exclude=x a /\n", want: "L COPY a / # buildkit\n"},
		{name: "variables", text: "FROM scratch\nARG A=x\nCOPY $A/a /$A/\n", want: "- ARG A=x\nL COPY x/a /x/ # buildkit\n"},
		{name: "credentials of a URL", text: "FROM scratch\nADD https://user:secret@example.com/a /\n", want: "L ADD https://xxxxx:xxxxx@example.com/a / # buildkit\n"},
		{name: "sources before heredocs", text: "FROM scratch\nCOPY a <<b /d/\nx\nb\n", want: "L COPY a <<b /d/ # buildkit\n"},
	})
}

func TestCopyErrors(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	checkPlans(t, rootView, []planCase{
		{name: "name with link", text: "FROM scratch\nCOPY --link --chown=1:staff a /\n",
			err: "Dockerfile:2: --chown=1:staff: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead"},
		{name: "chmod from a variable", text: "FROM scratch\nARG M=99\nCOPY --chmod=$M a /\n",
			err: "Dockerfile:3: invalid chmod parameter: '99'. it should be octal string and between 0 and 07777"},
		{name: "parents of the root", text: "FROM scratch\nCOPY --parents . /d/\n", err: "Dockerfile:2: --parents: \".\" names no file or directory: write \"**\" to copy everything there"},
		{name: "parents of a pivot", text: "FROM scratch\nCOPY --parents a/./. /d/\n", err: "Dockerfile:2: --parents: \"a/./.\" names no file or directory: write \"a/./**\" to copy everything there"},
		{name: "checksum of two", text: "FROM scratch\nADD --checksum=" + digest + " https://e.com/a https://e.com/b /\n", err: "Dockerfile:2: checksum can't be specified for multiple sources"},
		{name: "checksum of a file", text: "FROM scratch\nADD --checksum=" + digest + " a /\n", err: "Dockerfile:2: checksum requires HTTP(S) or Git sources"},
		{name: "URL in COPY", text: "FROM scratch\nCOPY http://e.com/a /\n", err: "Dockerfile:2: source can't be a URL for COPY"},
		{name: "repository in COPY", text: "FROM scratch\nCOPY git@e.com:a/b.git /\n", err: "Dockerfile:2: source can't be a git ref for COPY"},
		{name: "two values for the git directory", text: "FROM scratch\nADD --keep-git-dir=false https://e.com/a.git?keep-git-dir=true /\n", err: "Dockerfile:2: inconsistent keep-git-dir configuration"},
		{name: "checksum of no commit", text: "FROM scratch\nADD --checksum=zz https://e.com/a.git#main /\n",
			err: "Dockerfile:2: invalid checksum zz for Git URL, expected hex commit hash"},
		{name: "heredoc outside", text: "FROM scratch\nCOPY <<../x /\ny\n../x\n", err: "Dockerfile:2: heredoc <<../x: not a file name"},
	})
}

// The files that a copy selects are in its key, in the order in which they are named,
// with one input for each place that they come from.
func TestCopyInputs(t *testing.T) {
	t.Parallel()
	inputs := func(_ *testing.T, p *Plan) string {
		var b strings.Builder
		for _, in := range p.Root.In[1:] {
			b.WriteString(op.Kind(in.Step) + " " + in.Sel + "\n")
		}
		return b.String()
	}
	checkPlans(t, inputs, []planCase{
		{name: "one input for the context", text: "FROM scratch\nCOPY b a /d/\n", want: `context {"paths":[{"path":"/b"},{"path":"/a"}]}` + "\n"},
		{name: "file and URL", text: "FROM scratch\nADD a https://e.com/b c /d/\n",
			want: `context {"paths":[{"path":"/a"},{"path":"/c"}]}` + "\n" + `http {"paths":[{"path":"/b","literal":true}]}` + "\n"},
		{name: "one URL twice", text: "FROM scratch\nADD https://e.com/b https://e.com/b /d/\n",
			want: `http {"paths":[{"path":"/b","literal":true},{"path":"/b","literal":true}]}` + "\n"},
		{name: "owner does not matter", text: "FROM scratch\nCOPY --chown=1 a /\n", want: `context {"paths":[{"path":"/a"}],"any_owner":true}` + "\n"},
		{name: "symbolic mode matters", text: "FROM scratch\nCOPY --chmod=u+x a /\n", want: `context {"paths":[{"path":"/a"}]}` + "\n"},
		{name: "octal mode does not", text: "FROM scratch\nCOPY --chmod=755 a /\n", want: `context {"paths":[{"path":"/a"}],"any_mode":true}` + "\n"},
		{name: "heredoc only", text: "FROM scratch\nCOPY <<a /\nx\na\n", want: ""},
		{name: "exclude, without variables", text: "FROM scratch\nARG X=*.o\nCOPY --exclude=$X --exclude=b . /\n", want: `context {"paths":[{"path":"/"}],"exclude":["$X","b"]}` + "\n"},
		{name: "epoch", text: "FROM scratch\nCOPY a /\n", options: `{"Epoch":5}`, want: `context {"paths":[{"path":"/a"}],"epoch":5}` + "\n"},
	})
}

func TestAddRemote(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	source := func(_ *testing.T, p *Plan) string { return p.Root.In[1].Step.Op }
	checkPlans(t, source, []planCase{
		{name: "URL", text: "FROM scratch\nADD https://e.com/a?b=c /\n", want: `{"op":"http","url":"https://e.com/a?b=c","name":"a"}`},
		{name: "checksum", text: "FROM scratch\nADD --checksum=" + digest + " https://e.com/a /\n", want: `{"op":"http","url":"https://e.com/a","name":"a","digest":"` + digest + `"}`},
		{name: "checksum by variable", text: "FROM scratch\nARG S=" + digest + "\nADD --checksum=$S https://e.com/a /\n", want: `{"op":"http","url":"https://e.com/a","name":"a","digest":"` + digest + `"}`},
		{name: "variable in the URL", text: "FROM scratch\nARG V=1\nADD https://e.com/a-$V /\n", want: `{"op":"http","url":"https://e.com/a-1","name":"a-1"}`},
	})
}

// --link makes a layer apart from those below it, unless --chmod disables it.
func TestLink(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"FROM busybox\nCOPY --link a /\n":             "stack",
		"FROM scratch\nCOPY --link a /\n":             "copy", // nothing is below it
		"FROM busybox\nCOPY --link --chmod=755 a /\n": "copy",
		"FROM busybox\nCOPY --link=false a /\n":       "copy",
		"FROM busybox\nADD --link a /\n":              "stack",
	} {
		p := mustPlan(t, text, nil)
		if got := op.Kind(p.Root); got != want {
			t.Errorf("%q ends with %s, want %s", text, got, want)
		}
		if want == "stack" && op.Kind(p.Root.In[1].Step.In[0].Step) != "scratch" {
			t.Errorf("%q: the copy depends on the layers below it", text)
		}
	}
}

func TestNoCacheFilter(t *testing.T) {
	t.Parallel()
	const text = "FROM busybox AS a\nWORKDIR /a\nFROM busybox AS b\nWORKDIR /b\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n"
	for _, test := range []struct {
		name    string
		all     bool
		filter  []string
		without string // steps that ignore the cache
	}{
		{"none", false, nil, ""},
		{"a stage", false, []string{"a"}, "/a"},
		{"in another case", false, []string{"B"}, "/b"},
		{"a stage without a name", false, []string{"stage-2"}, "a b"},
		{"no such stage", false, []string{"c"}, ""},
		{"all", true, nil, "/a /b a b"},
	} {
		p := mustPlan(t, text, func(in *Input) { in.NoCache, in.NoCacheFilter = test.all, test.filter })
		var got []string
		for _, s := range p.Steps {
			_, text, _ := strings.Cut(s.Name, "] ")
			text = strings.TrimSuffix(strings.TrimPrefix(text, "COPY --from="), " / /")
			if s.Step.NoCache && !strings.HasPrefix(text, "FROM") {
				got = append(got, strings.TrimPrefix(text, "WORKDIR "))
			}
		}
		if strings.Join(got, " ") != test.without {
			t.Errorf("%s: %q ignore the cache, want %q", test.name, got, test.without)
		}
	}
}

func TestHeredocNames(t *testing.T) {
	t.Parallel()
	for _, h := range []dockerfile.Heredoc{{Name: "."}, {Name: ".."}, {Name: "a/b"}, {Name: "/"}, {Name: "a\xff"}, {Name: "a", Data: "\xff"}} {
		if checkInline(h) == nil {
			t.Errorf("%q with %q is accepted", h.Name, h.Data)
		}
	}
	for _, h := range []dockerfile.Heredoc{{Name: "a"}, {Name: "..."}, {Name: ".a"}, {Name: "é", Data: "ü"}} {
		if err := checkInline(h); err != nil {
			t.Error(err)
		}
	}
}
