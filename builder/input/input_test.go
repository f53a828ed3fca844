package input

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer/store"
)

func newSources(t *testing.T) *Sources {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	web := httpsource.New(httpsource.Options{Store: s})
	t.Cleanup(web.Close)
	return &Sources{Store: s, Progress: progress.New(progress.None, io.Discard), HTTP: web}
}

// dirOf writes files into a directory.
func dirOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tarOf makes an archive of files from a time.
func tarOf(t *testing.T, at time.Time, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), ModTime: at}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read returns the text of a file of a context.
func read(t *testing.T, d *source.Dir, name string) string {
	t.Helper()
	f, err := d.Resolve(name, true)
	if err != nil {
		return "error: " + err.Error()
	}
	r, err := f.Open()
	if err != nil {
		return "error: " + err.Error()
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	fromScratch = "FROM scratch\n"
	written     = 1500000000
)

// places makes contexts in a directory, to which it changes, and on a web server.
func places(t *testing.T) (dir, url string) {
	t.Helper()
	archived := tarOf(t, time.Unix(written, 0), "Dockerfile", fromScratch, "sub/Other", "FROM scratch AS other\n", "file", "text")
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/archive":
			w.Write(archived)
		case "/Dockerfile":
			io.WriteString(w, fromScratch)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(web.Close)
	dir = dirOf(t, map[string]string{
		"ctx/Dockerfile": fromScratch, "ctx/file": "text", "ctx/sub/Other": "FROM scratch AS other\n", "outside": "FROM scratch AS outside\n",
		"lower/dockerfile": fromScratch, "empty/file": "", "plain": "no archive", "archive.tar": string(archived), "isdir/Dockerfile/x": "",
	})
	if err := os.Symlink("../outside", filepath.Join(dir, "ctx/link")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	return dir, web.URL
}

// The Dockerfile and the main context, wherever they are.
func TestOpen(t *testing.T) {
	dir, web := places(t)
	archived, err := os.ReadFile("archive.tar")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		r       Request
		stdin   string
		file    string // name of the Dockerfile in messages
		stage   string // of the Dockerfile
		content string // of "file" in the context
		err     string
	}{
		{name: "directory", r: Request{Context: "ctx"}, file: "Dockerfile", content: "text"},
		{name: "Dockerfile in it", r: Request{Context: "ctx", Dockerfile: "ctx/sub/Other"}, file: "ctx/sub/Other", stage: "other", content: "text"},
		{name: "Dockerfile outside of it", r: Request{Context: "ctx", Dockerfile: "outside"}, file: "outside", stage: "outside", content: "text"},
		{name: "Dockerfile in lower case", r: Request{Context: "lower"}, file: "dockerfile"},
		{name: "link out of the context", r: Request{Context: "ctx", Dockerfile: "ctx/link"}, err: "there is no Dockerfile at ctx/link"},
		{name: "no Dockerfile", r: Request{Context: "empty"}, err: "there is no Dockerfile at empty/Dockerfile: cairn init empty writes one for a source tree (cairn help first-image has an example), or name it with --file"},
		{name: "a directory of this name", r: Request{Context: "isdir"}, err: "isdir/Dockerfile is a directory, not a Dockerfile"},
		{name: "no context", r: Request{Context: "nosuch"}, err: "build context: cannot read nosuch: there is no such directory or archive"},
		{name: "file as context", r: Request{Context: "plain"}, err: "build context: plain is neither a directory nor a tar archive"},
		{name: "archive", r: Request{Context: "archive.tar"}, file: "Dockerfile", content: "text"},
		{name: "Dockerfile in an archive", r: Request{Context: "archive.tar", Dockerfile: "./sub/Other"}, file: "sub/Other", stage: "other", content: "text"},
		{name: "not in the archive", r: Request{Context: "archive.tar", Dockerfile: "nosuch"}, err: "there is no Dockerfile at nosuch in the build context"},
		{name: "archive on standard input", r: Request{Context: "-"}, stdin: string(archived), file: "Dockerfile", content: "text"},
		{name: "Dockerfile on standard input", r: Request{Context: "-"}, stdin: "FROM scratch AS piped\n", file: "Dockerfile", stage: "piped"},
		{name: "Dockerfile on standard input with a context", r: Request{Context: "ctx", Dockerfile: "-"}, stdin: "FROM scratch AS piped\n", file: "Dockerfile", stage: "piped", content: "text"},
		{name: "both on standard input", r: Request{Context: "-", Dockerfile: "-"}, stdin: fromScratch, err: "standard input can't be both the build context and the Dockerfile"},
		{name: "Dockerfile on standard input and --file", r: Request{Context: "-", Dockerfile: "x"}, stdin: fromScratch, err: "standard input is a Dockerfile, not an archive"},
		{name: "no standard input", r: Request{Context: "-"}, err: "there is no standard input to read the build context from"},
		{name: "no standard input for the Dockerfile", r: Request{Context: "ctx", Dockerfile: "-"}, err: "there is no standard input to read the Dockerfile from"},
		{name: "archive of a web server", r: Request{Context: web + "/archive", Dockerfile: "sub/Other"}, file: "sub/Other", stage: "other", content: "text"},
		{name: "Dockerfile beside an archive of a web server", r: Request{Context: web + "/archive", Dockerfile: filepath.Join(dir, "outside")},
			file: filepath.Join(dir, "outside"), stage: "outside", content: "text"},
		{name: "Dockerfile of a web server", r: Request{Context: web + "/Dockerfile"}, file: "Dockerfile"},
		{name: "Dockerfile of a web server and --file", r: Request{Context: web + "/Dockerfile", Dockerfile: "sub/x"}, file: "sub/x"},
		{name: "not on the web server", r: Request{Context: web + "/nosuch"}, err: "the server answers 404 Not Found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSources(t)
			if test.stdin != "" {
				s.Stdin = strings.NewReader(test.stdin)
			}
			in, err := s.Open(t.Context(), test.r)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if in.File.Name != test.file || in.File.Stages[0].As != test.stage {
				t.Errorf("Dockerfile %s with stage %q, want %s with %q", in.File.Name, in.File.Stages[0].As, test.file, test.stage)
			}
			if got := read(t, in.Context(), "file"); test.content != "" && got != test.content {
				t.Errorf("file has %q, want %q", got, test.content)
			}
		})
	}
}

// The ignore file of a directory applies to its files, not to the Dockerfile. One beside
// the Dockerfile takes precedence.
func TestIgnoreFile(t *testing.T) {
	dir := dirOf(t, map[string]string{
		".dockerignore": "Dockerfile\nsecret\n", "Dockerfile": fromScratch, "secret": "x", "file": "text",
		"Other": fromScratch, "Other.dockerignore": "file\n", "kept/.dockerignore": "*\n!file\n", "kept/Dockerfile": fromScratch,
	})
	s := newSources(t)
	in, err := s.Open(t.Context(), Request{Context: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if !in.Ignored("secret") || in.Ignored("file") || !strings.HasPrefix(read(t, in.Context(), "secret"), "error: ") {
		t.Errorf("secret is ignored: %v, file is: %v, secret has %q", in.Ignored("secret"), in.Ignored("file"), read(t, in.Context(), "secret"))
	}
	other, err := s.Open(t.Context(), Request{Context: dir, Dockerfile: filepath.Join(dir, "Other")})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.Ignored("secret") || !other.Ignored("file") {
		t.Error("the ignore file beside the Dockerfile was not used")
	}
	exceptions, err := s.Open(t.Context(), Request{Context: filepath.Join(dir, "kept")})
	if err != nil {
		t.Fatal(err)
	}
	defer exceptions.Close()
	if exceptions.Ignored("anything") {
		t.Error("with exceptions nothing is ignored for certain")
	}
}

func TestContainerfile(t *testing.T) {
	s := newSources(t)
	for _, test := range []struct {
		name    string
		files   map[string]string
		r       Request
		file    string
		ignored string // of a and b
		err     string
	}{
		{name: "alone", files: map[string]string{"Containerfile": fromScratch}, file: "Containerfile"},
		{name: "with its ignore file", files: map[string]string{"Containerfile": fromScratch, ".containerignore": "a"}, file: "Containerfile", ignored: "a"},
		{name: "with both ignore files", files: map[string]string{"Containerfile": fromScratch, ".containerignore": "a", ".dockerignore": "b"}, file: "Containerfile", ignored: "b"},
		{name: "beside a Dockerfile", files: map[string]string{"Containerfile": fromScratch, "Dockerfile": fromScratch, ".containerignore": "a"}, file: "Dockerfile"},
		{name: "beside a dockerfile", files: map[string]string{"Containerfile": fromScratch, "dockerfile": fromScratch}, file: "dockerfile"},
		{name: "named", files: map[string]string{"Containerfile": fromScratch, ".containerignore": "a"}, r: Request{Dockerfile: "Containerfile"}, file: "Containerfile"},
		{name: "another is named", files: map[string]string{"Containerfile": fromScratch}, r: Request{Dockerfile: "Dockerfile"}, err: "there is no Dockerfile at"},
		{name: "a directory", files: map[string]string{"Containerfile/x": ""}, err: "there is no Dockerfile at"},
		{name: "another ignore file", files: map[string]string{"Dockerfile": fromScratch, ".dockerignore": "a", "other": "b"}, r: Request{IgnoreFile: "other"}, file: "Dockerfile", ignored: "b"},
		{name: "missing ignore file", files: map[string]string{"Dockerfile": fromScratch}, r: Request{IgnoreFile: "other"}, err: "reading the ignore file: open"},
	} {
		dir := dirOf(t, test.files)
		test.r.Context = dir
		for _, path := range []*string{&test.r.Dockerfile, &test.r.IgnoreFile} {
			if *path != "" {
				*path = filepath.Join(dir, *path)
			}
		}
		in, err := s.Open(t.Context(), test.r)
		if err != nil || test.err != "" {
			if err == nil || test.err == "" || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if got := filepath.Base(in.File.Name); got != test.file {
			t.Errorf("%s: %s, want %s", test.name, got, test.file)
		}
		for _, name := range []string{"a", "b"} {
			if in.Ignored(name) != (name == test.ignored) {
				t.Errorf("%s: %s is ignored: %v", test.name, name, in.Ignored(name))
			}
		}
		in.Close()
	}
	archive := filepath.Join(dirOf(t, map[string]string{"c.tar": string(tarOf(t, time.Unix(1, 0), "Containerfile", fromScratch))}), "c.tar")
	in, err := s.Open(t.Context(), Request{Context: archive})
	if err != nil || in.File.Name != "Containerfile" {
		t.Fatalf("in an archive: %v", err)
	}
	in.Close()
	if _, err := s.Open(t.Context(), Request{Context: archive, IgnoreFile: "x"}); err == nil || !strings.Contains(err.Error(), "the ignore file x is for a directory") {
		t.Errorf("an ignore file for an archive: %v", err)
	}
}

func TestNamedContexts(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Unix(written+1, 0).UTC().Format(http.TimeFormat))
		w.Write(tarOf(t, time.Unix(written, 0), "file", "text"))
	}))
	defer web.Close()
	dir := dirOf(t, map[string]string{"Dockerfile": fromScratch, "d/file": "text", "d/.dockerignore": "ignored", "d/ignored": "x", "one": "single"})
	if err := os.WriteFile(filepath.Join(dir, "tar"), tarOf(t, time.Unix(written, 0), "file", "archived"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSources(t)
	in, err := s.Open(t.Context(), Request{
		Context: dir,
		Named: []Named{
			{"dir", dir + "/d"}, {"single", dir + "/one"}, {"archive", dir + "/tar"}, {"web", web.URL + "/x.tar"},
			{"image", "docker-image://alpine"}, {"nothing", "docker-image://scratch"}, {"layout", "oci-layout://" + dir + ":tag@sha256:aa"},
		},
		FullName: func(_ context.Context, name string) (string, error) { return "full/" + name, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	images := map[string]string{"image": "full/alpine", "nothing": "scratch", "layout": "oci-layout://" + dir + ":tag@sha256:aa", "dir": "", "web": ""}
	for name, want := range images {
		if got := in.Named()[name].Image; got != want {
			t.Errorf("%s is image %q, want %q", name, got, want)
		}
	}
	for _, test := range []struct {
		name, file, want string
		time             int64 // 0: none
	}{
		{"dir", "file", "text", 0}, {"dir", "ignored", "error", 0}, {"single", "one", "single", 0},
		{"archive", "file", "archived", written}, {"web", "context", string(tarOf(t, time.Unix(written, 0), "file", "text")), written + 1},
	} {
		d, err := in.OpenNamed(t.Context(), test.name)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := read(t, d, test.file); got != test.want && (test.want != "error" || !strings.HasPrefix(got, "error: ")) {
			t.Errorf("%s: %s has %q, want %q", test.name, test.file, got, test.want)
		}
		at, err := in.EpochOf(t.Context(), plan.EpochSource{Context: test.name})
		if err != nil || (at == nil) != (test.time == 0) || at != nil && *at != test.time {
			t.Errorf("%s: time %v, %v; want %d", test.name, at, err, test.time)
		}
	}
	if _, err := in.OpenNamed(t.Context(), "nosuch"); err == nil || err.Error() != "build context nosuch: there is no context of this name" {
		t.Errorf("error %v", err)
	}
}

func TestBadNamedContexts(t *testing.T) {
	dir := dirOf(t, map[string]string{"Dockerfile": fromScratch})
	fails := errors.New("no such name")
	for value, want := range map[string]string{
		dir + "/nosuch":                   "no such file or directory",
		"s3://bucket":                     "s3:// is not supported",
		"oci-layout://" + dir + "/nosuch": "no such file or directory",
		"docker-image://x":                fails.Error(),
	} {
		_, err := newSources(t).Open(t.Context(), Request{
			Context: dir, Named: []Named{{"name", value}},
			FullName: func(context.Context, string) (string, error) { return "", fails },
		})
		if err == nil || !strings.HasPrefix(err.Error(), "build context name: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", value, err, want)
		}
	}
}

// The main context's time is that of an archive or of the server, and unknown for a
// directory.
func TestMainEpoch(t *testing.T) {
	modified := ""
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if modified != "" {
			w.Header().Set("Last-Modified", modified)
		}
		w.Write(tarOf(t, time.Unix(written, 0), "Dockerfile", fromScratch))
	}))
	defer web.Close()
	epoch := func(value string) int64 {
		in, err := newSources(t).Open(t.Context(), Request{Context: value})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		at, err := in.EpochOf(t.Context(), plan.EpochSource{Context: "context"})
		if err != nil {
			t.Fatal(err)
		}
		if at == nil {
			return 0
		}
		return *at
	}
	if got := epoch(dirOf(t, map[string]string{"Dockerfile": fromScratch})); got != 0 {
		t.Errorf("a directory has time %d", got)
	}
	if got := epoch(web.URL); got != written {
		t.Errorf("an archive has time %d, want that of its newest file, %d", got, written)
	}
	modified = time.Unix(written+5, 0).UTC().Format(http.TimeFormat)
	if got := epoch(web.URL); got != written+5 {
		t.Errorf("an archive has time %d, want that of the server, %d", got, written+5)
	}
}

func TestSplitLayout(t *testing.T) {
	for ref, want := range map[string][3]string{
		"oci-layout://d":               {"d", "latest", ""},
		"oci-layout://d:t":             {"d", "t", ""},
		"oci-layout://d@sha256:aa":     {"d", "latest", "sha256:aa"},
		"oci-layout:///a/d:t@sha256:a": {"/a/d", "t", "sha256:a"},
	} {
		if dir, tag, digest := splitLayout(ref); [3]string{dir, tag, string(digest)} != want {
			t.Errorf("%s: %s, %s, %s; want %q", ref, dir, tag, digest, want)
		}
	}
}

// A read that never returns ends with the context.
func TestInterruptible(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	in := interruptible(ctx, r)
	go func() { _, _ = io.WriteString(w, "text") }()
	text := make([]byte, 4)
	if _, err := io.ReadFull(in, text); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	go cancel(errors.New("interrupted"))
	for range 2 {
		if _, err := in.Read(text); err == nil || err.Error() != "interrupted" {
			t.Errorf("error %v", err)
		}
	}
}

func TestDockerfileTooLarge(t *testing.T) {
	s := newSources(t)
	s.Stdin = io.LimitReader(zeros{}, maxDockerfile+2)
	_, err := s.Open(t.Context(), Request{Context: dirOf(t, nil), Dockerfile: "-"})
	if err == nil || !strings.Contains(err.Error(), "is larger than 16777216 bytes: it is not a Dockerfile") {
		t.Errorf("error %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
