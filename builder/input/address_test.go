package input

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
)

// TestParseAddress checks which contexts are repositories, URLs and paths.
func TestParseAddress(t *testing.T) {
	t.Parallel()
	dir := dirOf(t, map[string]string{"a.git/x": ""})
	for value, want := range map[string]string{
		"https://example.com/a.git":        "repository https://example.com/a.git",
		"https://example.com/a.git#v1:sub": "repository https://example.com/a.git v1 sub",
		"git@example.com:team/a.git":       "repository git@example.com:team/a.git",
		"ssh://git@example.com/a":          "repository ssh://git@example.com/a",
		"git://example.com/a#main":         "repository git://example.com/a main",
		"github.com/team/a":                "repository https://github.com/team/a",
		"https://example.com/a.tar":        "url",
		"http://example.com/Dockerfile":    "url",
		"https://example.com/a.git/a.tar":  "url",
		dir:                                "path",
		filepath.Join(dir, "a.git"):        "path",
		"./github.com/team/a":              "path",
		"../a":                             "path",
		"ctx":                              "path",
	} {
		at, err := parseAddress(value)
		got := "path"
		switch {
		case err != nil:
			got = err.Error()
		case at.repository != nil:
			got = strings.TrimSpace("repository " + at.repository.Remote + " " + at.repository.Ref)
			got = strings.TrimSpace(got + " " + at.repository.Subdir)
		case at.url:
			got = "url"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
	for value, want := range map[string]string{
		"https://example.com/a.git?branch=": `query "branch" has no value`,
		"https://example.com/a.git?x=y":     `unexpected query "x"`,
		"ssh:///a.git":                      `invalid git repository "ssh:///a.git"`,
	} {
		_, err := newSources(t).Open(t.Context(), Request{Context: value})
		mentions(t, err, "build context: ", want)
		_, err = newSources(t).Open(t.Context(), Request{Context: dir, Named: []Named{{"name", value}}})
		mentions(t, err, "build context name: ", want)
	}
}

// TestOddFiles checks the errors of contexts and Dockerfiles that are special files.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	dir := dirOf(t, map[string]string{"ctx/file": "", "out/x": "", "lower/dockerfile": fromScratch})
	for name, test := range map[string]struct {
		r    Request
		want string
	}{
		"device as context":       {Request{Context: "/dev/null"}, "build context: /dev/null is neither a directory nor a file: send an archive by standard input, with - as the context"},
		"directory as Dockerfile": {Request{Context: dir + "/ctx", Dockerfile: dir + "/out"}, dir + "/out is a directory, not a Dockerfile: name the file with --file"},
		"missing beside":          {Request{Context: dir + "/ctx", Dockerfile: dir + "/out/none"}, "there is no Dockerfile at " + dir + "/out/none: write one, or name it with --file"},
		"context of another name": {Request{Context: dir + "/ctx", Named: []Named{{"A B", dir}}}, "build context A B: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := newSources(t).Open(t.Context(), test.r)
			if err == nil {
				in.Close()
			}
			mentions(t, err, test.want)
		})
	}
	in, err := newSources(t).Open(t.Context(), Request{Context: dir + "/ctx", Dockerfile: dir + "/lower/Dockerfile"})
	if err != nil {
		t.Fatalf("a Dockerfile in lower case beside the context: %v", err)
	}
	in.Close()
}

// TestRemoteTime checks the time of a file that ADD fetches: that of the server, or of
// the newest file in an archive, or none.
func TestRemoteTime(t *testing.T) {
	t.Parallel()
	archive := tarOf(t, time.Unix(written, 0), "file", "text")
	web := imagetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/dated":
			w.Header().Set("Last-Modified", time.Unix(written+7, 0).UTC().Format(http.TimeFormat))
			_, _ = w.Write(archive)
		case "/archive":
			_, _ = w.Write(archive)
		default:
			_, _ = w.Write([]byte("text"))
		}
	}))
	in := &Inputs{sources: newSources(t)}
	for path, want := range map[string]int64{"/dated": written + 7, "/archive": written, "/plain": 0} {
		at, err := in.EpochOf(t.Context(), plan.EpochSource{Remote: &plan.Remote{URL: web.URL + path}})
		if err != nil || (at == nil) != (want == 0) || at != nil && *at != want {
			t.Errorf("%s: %v, %v, want %d", path, at, err, want)
		}
	}
	sum := layer.FromBytes([]byte("text"))
	if _, err := in.EpochOf(t.Context(), plan.EpochSource{Remote: &plan.Remote{URL: web.URL + "/sum", Checksum: string(sum)}}); err != nil {
		t.Error(err)
	}
	_, err := in.EpochOf(t.Context(), plan.EpochSource{Remote: &plan.Remote{URL: web.URL + "/other", Checksum: string(layer.FromBytes(nil))}})
	mentions(t, err, "/other", string(sum))
	_, err = in.EpochOf(t.Context(), plan.EpochSource{Remote: &plan.Remote{URL: web.URL + "/bad", Checksum: "sha256:1"}})
	mentions(t, err, "--checksum: ", "sha256:1")
}

// TestDirectoryLikeRepository checks that an existing directory takes precedence over a
// repository whose address looks the same. It changes the working directory.
func TestDirectoryLikeRepository(t *testing.T) {
	t.Chdir(dirOf(t, map[string]string{"github.com/team/a/Dockerfile": fromScratch}))
	in, err := newSources(t).Open(t.Context(), Request{Context: "github.com/team/a"})
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	if at, err := parseAddress("github.com/team/b"); err != nil || at.repository == nil {
		t.Errorf("a directory that does not exist: %+v, %v", at, err)
	}
}
