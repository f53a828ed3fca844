package dockerfile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func parse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParse(t *testing.T) {
	t.Parallel()
	f := parse(t, "# syntax=docker/dockerfile:1\n# escape=`\n\nARG V=1 W\n\n# build compiles it\nFROM --platform=$P base:$V AS Build\n# why\nRUN --network=none a `\n  b\nHEALTHCHECK NONE\nfrom build\n")
	if f.Syntax != "docker/dockerfile:1" || f.Escape != '`' {
		t.Errorf("syntax %q, escape %q", f.Syntax, f.Escape)
	}
	one := "1"
	wantArgs := []Arg{{
		Meta: Meta{Keyword: "ARG", Source: "ARG V=1 W", Ranges: []Range{{4, 4}}},
		Args: []ArgPair{{Key: "V", Value: &one}, {Key: "W"}},
	}}
	if diff := cmp.Diff(wantArgs, f.Args, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("args: %s", diff)
	}
	want := []Stage{
		{
			Meta: Meta{
				Keyword: "FROM", Source: "FROM --platform=$P base:$V AS Build",
				Ranges: []Range{{7, 7}}, Comments: []string{"build compiles it"},
			},
			Base: "base:$V", As: "build", Platform: "$P", Doc: "compiles it",
			Instructions: []Instruction{
				&Run{
					Meta: Meta{
						Keyword: "RUN", Source: "RUN --network=none a   b",
						Ranges: []Range{{9, 10}}, Comments: []string{"why"},
					},
					CommandLine: CommandLine{Args: []string{"a   b"}, Shell: true}, Network: "none", Flags: []string{"network"},
				},
				&Healthcheck{Meta: Meta{Keyword: "HEALTHCHECK", Source: "HEALTHCHECK NONE", Ranges: []Range{{11, 11}}}, Test: []string{"NONE"}},
			},
		},
		{
			Meta: Meta{Keyword: "from", Source: "from build", Ranges: []Range{{12, 12}}},
			Base: "build", Instructions: []Instruction{},
		},
	}
	if diff := cmp.Diff(want, f.Stages, cmpopts.IgnoreUnexported(Run{})); diff != "" {
		t.Errorf("stages: %s", diff)
	}
}

// No part of BuildKit's instructions is lost.
func TestConvert(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	x := "x"
	for text, want := range map[string]Instruction{
		"ADD --chown=a --chmod=1 --link --exclude=b --checksum=c --keep-git-dir --unpack=false s t d": &Add{
			Files:    Files{Sources: []string{"s", "t"}, Dest: "d", Chown: "a", Chmod: "1", Link: true, Exclude: []string{"b"}},
			Checksum: "c", KeepGitDir: &yes, Unpack: &no,
		},
		"COPY --from=f --parents --link --chown=a --chmod=1 --exclude=b s d": &Copy{
			Files: Files{Sources: []string{"s"}, Dest: "d", Chown: "a", Chmod: "1", Link: true, Exclude: []string{"b"}},
			From:  "f", Parents: true,
		},
		"COPY <<A <<-'B' /d\na\nA\n\tb\n\tB": &Copy{
			Files: Files{Dest: "/d", Inline: []Heredoc{{Name: "A", Data: "a\n", Expand: true}, {Name: "B", Data: "b\n"}}},
		},
		"ARG A=x B":                     &Arg{Args: []ArgPair{{Key: "A", Value: &x}, {Key: "B"}}},
		"CMD a b":                       &Cmd{CommandLine: CommandLine{Args: []string{"a b"}, Shell: true}},
		`ENTRYPOINT ["a","b"]`:          &Entrypoint{CommandLine: CommandLine{Args: []string{"a", "b"}}},
		"ENV A=1 B=2":                   &Env{Pairs: []Pair{{Key: "A", Value: "1"}, {Key: "B", Value: "2"}}},
		"ENV A 1":                       &Env{Pairs: []Pair{{Key: "A", Value: "1", Legacy: true}}},
		"EXPOSE 2 1":                    &Expose{Ports: []string{"1", "2"}},
		"HEALTHCHECK --retries=3 CMD x": &Healthcheck{Test: []string{"CMD-SHELL", "x"}, Retries: 3},
		"LABEL a=b":                     &Label{Pairs: []Pair{{Key: "a", Value: "b"}}},
		"MAINTAINER me too":             &Maintainer{Name: "me too"},
		"ONBUILD RUN x":                 &Onbuild{Trigger: "RUN x"},
		"RUN --security=insecure x":     &Run{CommandLine: CommandLine{Args: []string{"x"}, Shell: true}, Network: "default", Insecure: true, Flags: []string{"security"}},
		"RUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/u --network=host x": &Run{
			CommandLine: CommandLine{Args: []string{"x"}, Shell: true}, Network: "host", Flags: []string{"mount", "network"},
			Mounts: []Mount{{Type: "bind", ReadOnly: true}, {Type: "bind", ReadOnly: true}},
		},
		`SHELL ["a","b"]`: &Shell{Args: []string{"a", "b"}},
		"STOPSIGNAL 9":    &StopSignal{Signal: "9"},
		"USER a:b":        &User{Name: "a:b"},
		"VOLUME /a /b":    &Volume{Paths: []string{"/a", "/b"}},
		"WORKDIR /a b":    &Workdir{Path: "/a b"},
	} {
		f := parse(t, "FROM scratch\n"+text+"\n")
		got := f.Stages[0].Instructions[0]
		*got.Info() = Meta{}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Run{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", text, diff)
		}
	}
}

func TestParseTrigger(t *testing.T) {
	t.Parallel()
	f := parse(t, "FROM scratch\nFROM base\n")
	at := []Range{{2, 2}}
	in, err := f.ParseTrigger("COPY a /", at)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := in.(*Copy); !ok || c.Dest != "/" || !cmp.Equal(c.Ranges, at) {
		t.Errorf("got %#v", in)
	}
	for _, text := range []string{"", "RUN a\nRUN b", "FROM x", "RUN <<E\nx", "COPY a"} {
		_, err := f.ParseTrigger(text, at)
		var e *Error
		if !errors.As(err, &e) || !cmp.Equal(e.Ranges, at) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestOnlyHeredoc(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"RUN <<E\n\ta\nE":         "\ta\n",
		"RUN <<-E\n\t\ta\n\tE":    "a\n",
		"RUN <<'E'\na\nE":         "a\n",
		"RUN x <<E\na\nE":         "none",
		"RUN <<A <<B\na\nA\nb\nB": "none",
		"RUN a":                   "none",
	} {
		run := parse(t, "FROM scratch\n"+text+"\n").Stages[0].Instructions[0].(*Run)
		h, ok := run.OnlyHeredoc()
		if !ok {
			h.Data = "none"
		}
		if h.Data != want {
			t.Errorf("%q: got %q, want %q", text, h.Data, want)
		}
	}
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("FROM scratch\n", 9) + "last"
	for _, c := range []struct {
		at   []Range
		want string
	}{
		{nil, ""},
		{[]Range{{1, 1}}, "1+ 2 3"},
		{[]Range{{5, 5}}, "3 4 5+ 6 7"},
		{[]Range{{5, 6}}, "4 5+ 6+ 7"},
		{[]Range{{2, 2}, {6, 6}}, "1 2+ 3 4 5 6+ 7"},
		{[]Range{{10, 10}}, "8 9 10+"},
		{[]Range{{0, 0}}, "1+ 2 3"},
		{[]Range{{99, 99}}, "8 9 10+"},
		{[]Range{{9, 99}}, "8 9+ 10+"},
	} {
		f := &File{Name: "D", Text: []byte(text)}
		got := marked(f.At(errors.New("x"), c.at...).(*Error).Excerpt())
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.at, got, c.want)
		}
	}
}

// marked returns the line numbers of an excerpt, marked ones with a plus.
func marked(excerpt string) string {
	var out []string
	for line := range strings.Lines(excerpt) {
		n, rest, ok := strings.Cut(strings.TrimSpace(line), " | ")
		if !ok {
			continue
		}
		if strings.HasPrefix(rest, ">>>") {
			n += "+"
		}
		out = append(out, n)
	}
	return strings.Join(out, " ")
}

func TestAtKeepsTheFirstPlace(t *testing.T) {
	t.Parallel()
	f := &File{Name: "D", Text: []byte("a\nb\n")}
	inner := f.At(errors.New("x"), Range{1, 1})
	if got := f.At(inner, Range{2, 2}); got.Error() != "D:1: x" {
		t.Errorf("got %v", got)
	}
	if f.At(nil) != nil {
		t.Error("no error became one")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"FROM a\nRUN <<E\nx\nE\n", "# escape=`\nFROM a\nRUN a `\n b", "ONBUILD RUN <<E\nE\n", "FROM a AS b\nCOPY --from=b <<X <<Y /z\nX\nY\n",
		"\xef\xbb\xbfFROM a\n", "#!/x\n# syntax=y\n", `{"syntax":"a"}`, "# check=skip=all;error=true\nFROM a", "FROM a\nHEALTHCHECK --interval=1s CMD [\"a\"]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("f", []byte(text))
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("an error without a place: %v", err)
		}
		if err != nil {
			e.Excerpt()
			return
		}
		if len(file.Stages) == 0 {
			t.Fatal("no stages and no error")
		}
	})
}

func TestMounts(t *testing.T) {
	t.Parallel()
	word := func(s string) (string, error) { return strings.ReplaceAll(s, "$v", "value"), nil }
	for _, test := range []struct {
		flag string
		want Mount
		err  string
	}{
		{flag: "target=/a,from=base", want: Mount{Type: "bind", Target: "/a", From: "base", ReadOnly: true}},
		{flag: "dst=/a,rw,src=$v", want: Mount{Type: "bind", Target: "/a", Source: "value"}},
		{flag: "type=$v", err: `unsupported mount type "value"`},
		{flag: "type=cache,destination=/a,id=$v,sharing=locked", want: Mount{Type: "cache", Target: "/a", ID: "value", Sharing: "locked"}},
		{flag: "type=tmpfs,target=/a,size=64k", want: Mount{Type: "tmpfs", Target: "/a", Size: 64 << 10}},
		{flag: "type=tmpfs,target=/a,size=99999999999999999999g", err: "invalid value for size of the mount at /a: must be less than 8 EiB"},
		{flag: "type=secret,id=a,required", want: Mount{Type: "secret", ID: "a", Required: true, ReadOnly: true}},
		{flag: "type=ssh,required=true", want: Mount{Type: "ssh", Required: true, ReadOnly: true}},
		{flag: "required=true,type=secret", err: "unexpected key 'required' for mount type 'bind'"},
		{flag: "target=/a,bind-propagation=shared", err: "unexpected key 'bind-propagation'"},
		{flag: "target=/a,mode=1", err: `mode not allowed for "bind" type mounts`},
		{flag: "type=tmpfs,target=/a,uid=1", err: `uid not allowed for "tmpfs" type mounts`},
		{flag: "type=secret,id=a,from=b", err: "secret mount should not have a from"},
		{flag: "type=bind,target=/a,sharing=locked", err: "invalid cache sharing set for bind mount"},
	} {
		f := parse(t, "FROM a\nRUN --mount="+test.flag+" true\n")
		in, err := Expand(f.Stages[0].Instructions[0], word, word)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.flag, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.flag, err)
			continue
		}
		if diff := cmp.Diff([]Mount{test.want}, in.(*Run).Mounts); diff != "" {
			t.Errorf("%s: %s", test.flag, diff)
		}
	}
	if _, err := Parse("Dockerfile", []byte("FROM a\nRUN --mount=from=$v,target=/a true\n")); err == nil {
		t.Error("a variable in from= was accepted")
	}
}
