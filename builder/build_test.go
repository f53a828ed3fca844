package builder

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

const epoch = 1700000000

// TestBuild builds each testdata/build/*.txtar, a Dockerfile and context files that the
// lines above them prepare, and compares the layers and config of the image. No case
// runs a command, so the test needs no privileges.
//
//	link NAME TARGET       a symbolic link
//	hardlink NAME TARGET   a hard link
//	chmod MODE NAME
//	mkdir NAME
//	tar NAME FORMAT DIR    moves a directory of the context into an archive
func TestBuild(t *testing.T) {
	cases, err := filepath.Glob("testdata/build/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(t, ar)
			if *update {
				setFile(ar, "want", got)
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(file(ar, "want"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func file(ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func setFile(ar *txtar.Archive, name, text string) {
	for i := range ar.Files {
		if ar.Files[i].Name == name {
			ar.Files[i].Data = []byte(text)
			return
		}
	}
	ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(text)})
}

// outcome builds a case and returns a description of the image, or the error.
func outcome(t *testing.T, ar *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	prepare(t, dir, ar)
	b := newBuilder(t, nil)
	at := int64(epoch)
	built, err := b.Build(t.Context(), options{Context: dir, Tags: []string{"x"}, Epoch: &at})
	if err != nil {
		return "error: " + strings.ReplaceAll(err.Error(), dir, "$CONTEXT") + "\n"
	}
	return describe(t, b, built.Image)
}

func newBuilder(t testing.TB, o *registry.Options) *testEnv {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if o == nil {
		o = &registry.Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}}
	}
	c, err := registry.New(*o)
	if err != nil {
		t.Fatal(err)
	}
	return &testEnv{&images.Manager{Store: s, Registry: c, Progress: progress.New(progress.None, io.Discard)}}
}

// testEnv is a store with a registry client, in which a test builds.
type testEnv struct{ *images.Manager }

// options are those of one target and its session that tests set.
type options struct {
	Context     string
	Tags        []string
	Push, Pull  bool
	Args        map[string]string
	Epoch       *int64
	Jobs        int
	Compression Compression
	CacheFrom   []remote.Location
	CacheTo     []CacheTo
	Now         time.Time
}

// Build builds one target in a session of its own.
func (b *testEnv) Build(ctx context.Context, o options) (*Built, error) {
	s := b.session(o)
	defer s.Close()
	target := Target{Context: o.Context, Args: o.Args, Epoch: o.Epoch, Pull: o.Pull}
	target.Tags, target.Push, target.Compression = o.Tags, o.Push, o.Compression
	built, err := s.Build(ctx, target)
	if len(built) == 0 {
		return nil, err
	}
	return built[0], err
}

func (b *testEnv) session(o options) *Session {
	s, err := NewSession(SessionOptions{
		Store: b.Store, Registry: b.Registry, Progress: b.Progress, Jobs: o.Jobs, CacheFrom: o.CacheFrom, CacheTo: o.CacheTo, Now: o.Now,
	})
	if err != nil {
		panic(err) // there are no secrets and agents that could be missing
	}
	return s
}

// prepare writes the context. Its files are older than the epoch, so that the layers
// show their times.
func prepare(t *testing.T, dir string, ar *txtar.Archive) {
	t.Helper()
	for _, f := range ar.Files {
		if f.Name != "want" {
			put(t, filepath.Join(dir, f.Name), f.Data)
		}
	}
	for line := range strings.Lines(string(ar.Comment)) {
		if words := strings.Fields(line); len(words) > 1 && !strings.HasPrefix(line, "#") {
			direct(t, dir, words)
		}
	}
	old := time.Unix(epoch-1000, 0)
	err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(p, old, old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func direct(t *testing.T, dir string, w []string) {
	t.Helper()
	at := func(i int) string { return filepath.Join(dir, w[i]) }
	var err error
	switch w[0] {
	case "link":
		err = os.Symlink(w[2], at(1))
	case "hardlink":
		err = os.Link(at(2), at(1))
	case "chmod":
		var m uint64
		m, err = strconv.ParseUint(w[1], 8, 32)
		mode := os.FileMode(m & 0o777)
		if m&0o4000 != 0 {
			mode |= os.ModeSetuid
		}
		err = errors.Join(err, os.Chmod(at(2), mode))
	case "mkdir":
		err = os.MkdirAll(at(1), 0o755)
	case "tar":
		err = errors.Join(archive(at(1), w[2], at(3)), os.RemoveAll(at(3)))
	default:
		err = fmt.Errorf("unknown directive %q", w[0])
	}
	if err != nil {
		t.Fatal(err)
	}
}

// archive makes a tar of a directory, owned by 7:8.
func archive(name, format, dir string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := compress.NewWriter(f, compress.Options{Format: compress.Format(format)})
	if err != nil {
		return err
	}
	w := tar.NewWriter(c)
	err = filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
		rel, _ := filepath.Rel(dir, p)
		if err != nil || rel == "." {
			return err
		}
		target, _ := os.Readlink(p)
		h, err := tar.FileInfoHeader(fi, target)
		if err != nil {
			return err
		}
		h.Name, h.Uid, h.Gid, h.ModTime = rel, 7, 8, time.Unix(epoch-2000, 0)
		if err := w.WriteHeader(h); err != nil || !fi.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return errors.Join(err, w.Close(), c.Close())
}

// describe lists an image: every entry of every layer, then its config.
func describe(t *testing.T, b *testEnv, img layer.Image) string {
	t.Helper()
	var out strings.Builder
	for i, l := range img.Layers {
		fmt.Fprintf(&out, "layer %d\n", i+1)
		raw, err := b.Store.OpenBlob(l.Digest)
		if err != nil {
			t.Fatal(err)
		}
		list(t, raw, &out)
		raw.Close()
	}
	var cfg map[string]any
	if err := json.Unmarshal(img.Config, &cfg); err != nil {
		t.Fatal(err)
	}
	delete(cfg, "rootfs")
	delete(cfg, "architecture")
	pretty, err := json.MarshalIndent(cfg, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "config\n%s\n", pretty)
	return out.String()
}

func list(t *testing.T, raw io.Reader, out io.Writer) {
	t.Helper()
	plain, err := compress.NewReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	r := tar.NewReader(plain)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "%c %04o %d:%d %+d %s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix()-epoch, h.Name)
		if h.Linkname != "" {
			fmt.Fprintf(out, " -> %s", h.Linkname)
		}
		if len(data) > 100 {
			fmt.Fprintf(out, " %d bytes", len(data))
		} else if len(data) > 0 {
			fmt.Fprintf(out, " %q", data)
		}
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(k, "SCHILY.xattr.") {
				fmt.Fprintf(out, " %s=%q", k, h.PAXRecords[k])
			}
		}
		fmt.Fprintln(out)
	}
}

// A build has the same digest when it is repeated, in an empty store, and with any
// number of jobs.
func TestBuildIsReproducible(t *testing.T) {
	ar := txtar.Parse([]byte("-- Dockerfile --\nFROM scratch AS a\nCOPY d /x/\nFROM scratch\nCOPY --from=a /x /y\nWORKDIR /w/z\n-- d/one --\n1\n-- d/two --\n2\n"))
	dir := t.TempDir()
	prepare(t, dir, ar)
	at := int64(epoch)
	seen := map[layer.Digest]bool{}
	for jobs := range 4 {
		b := newBuilder(t, nil)
		for range 2 {
			built, err := b.Build(t.Context(), options{Context: dir, Epoch: &at, Jobs: jobs})
			if err != nil {
				t.Fatal(err)
			}
			seen[built.Image.Digest] = true
		}
	}
	if len(seen) != 1 {
		t.Errorf("%d digests: %v", len(seen), seen)
	}
}

func TestCanceledBuild(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY f /\n"))
	put(t, filepath.Join(dir, "f"), bytes.Repeat([]byte("x"), 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := newBuilder(t, nil)
	if _, err := b.Build(ctx, options{Context: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
}
