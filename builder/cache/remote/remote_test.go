package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cairn-build/cairn/builder/cache"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
	"github.com/cairn-build/cairn/layer/listing"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/server"
)

// key returns the key for a word.
func key(word string) string { return layer.FromBytes([]byte(word)).Hex() }

// lab makes layers and steps.
type lab struct {
	blobs   map[layer.Digest][]byte
	indexes map[layer.Digest]*listing.Listing
}

func newLab() *lab {
	return &lab{map[layer.Digest][]byte{}, map[layer.Digest]*listing.Listing{}}
}

// layer makes a layer that contains a text, and an index of n files.
func (l *lab) layer(t testing.TB, text string, n int) layer.Descriptor {
	t.Helper()
	var b bytes.Buffer
	w, err := compress.NewWriter(&b, compress.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	blob := w.Blob()
	l.blobs[blob.Digest] = b.Bytes()
	x := &listing.Listing{}
	for i := range n {
		x.Entries = append(x.Entries, listing.Entry{Path: fmt.Sprintf("file%08d", i), Type: listing.TypeFile, Size: int64(i)})
	}
	l.indexes[blob.DiffID] = x
	return blob
}

func (l *lab) step(b layer.Descriptor, name string, below string, created int64, recipes ...string) Step {
	return Step{
		Keys:   recipes,
		Record: cache.Record{Key: key(name), Below: below, Layers: []layer.Descriptor{b}, Name: name, Created: created},
		Source: Source{Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(l.blobs[b.Digest])), nil
		}},
	}
}

func (l *lab) content(steps ...Step) Content {
	c := Content{Steps: steps, Index: func(d layer.Digest) (*listing.Listing, error) {
		if x := l.indexes[d]; x != nil {
			return x, nil
		}
		return nil, fs.ErrNotExist
	}}
	for _, s := range steps {
		c.Layers = append(c.Layers, s.Record.Layers[0].DiffID)
	}
	return c
}

// places returns a location of each kind.
func places(t *testing.T) (*registry.Client, []Location) {
	t.Helper()
	h, err := server.Handler(t.TempDir(), server.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := registry.New(registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	all := []Location{{Ref: strings.TrimPrefix(server.URL, "http://") + "/me/cache:1"}, {Dir: filepath.Join(t.TempDir(), "new")}}
	for version := 1; version <= 2; version++ {
		service, _ := newService(t, version)
		all = append(all, Location{Service: service})
	}
	if debian := dockerRegistry(t); debian != "" {
		all = append(all, Location{Ref: debian + "/me/cache:1"})
	}
	return client, all
}

// dockerRegistry starts Debian's registry, if there is one.
func dockerRegistry(t *testing.T) (host string) {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Log("not tested with docker-registry (package docker-registry)")
		return ""
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, host)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			return host
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("docker-registry ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestRoundTrip(t *testing.T) {
	client, all := places(t)
	for _, w := range all {
		if _, err := Read(t.Context(), client, w, layer.HostPlatform()); !errors.Is(err, ErrNotFound) {
			t.Errorf("reading what is not there: %v", err)
		}
		l := newLab()
		small, large := l.layer(t, "small", 2), l.layer(t, "large", 5000)
		lone := layer.FromBytes([]byte("a base's layer"))
		l.indexes[lone] = &listing.Listing{Entries: []listing.Entry{{Path: "etc", Type: listing.TypeDir, Mode: 0o755}}}
		c := l.content(l.step(small, "a", "", 1), l.step(large, "b", key("a"), 2, key("recipe of b")))
		c.Layers = append(c.Layers, lone, layer.FromBytes([]byte("nobody knows this one")))
		if err := Write(t.Context(), client, w, c); err != nil {
			t.Fatal(err)
		}
		got, err := Read(t.Context(), client, w, layer.HostPlatform())
		if err != nil {
			t.Fatal(err)
		}
		want := cache.Record{Key: key("b"), Below: key("a"), Layers: []layer.Descriptor{large}, Name: "b", Created: 2}
		for _, k := range []string{"b", "recipe of b"} {
			rec, ok := got.Record(key(k))
			if diff := cmp.Diff(want, rec); diff != "" || !ok {
				t.Errorf("%s: record under %s: %v (-want +got):\n%s", w, k, ok, diff)
			}
		}
		if _, ok := got.Record(key("c")); ok || got.Len() != 2 {
			t.Errorf("%s knows c, or %d results rather than 2", w, got.Len())
		}
		for d, x := range l.indexes {
			have, err := got.Index(t.Context(), d)
			if err != nil {
				t.Errorf("%s: %v", w, err)
			} else if !bytes.Equal(have.Encode(), x.Encode()) {
				t.Errorf("%s: another index of %s came back", w, d)
			}
		}
		r, err := got.Open(t.Context(), large)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(b, l.blobs[large.Digest]) {
			t.Errorf("%s: the layer came back as %d bytes, %v", w, len(b), err)
		}
	}
}

func TestWritersMerge(t *testing.T) {
	client, all := places(t)
	for _, w := range all {
		l := newLab()
		for i, name := range []string{"a", "b", "c"} {
			if err := Write(t.Context(), client, w, l.content(l.step(l.layer(t, name, i), name, "", int64(i), key("recipe of all")))); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Read(t.Context(), client, w, layer.HostPlatform())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b", "c"} {
			if _, ok := got.Record(key(name)); !ok {
				t.Errorf("%s lost %s", w, name)
			}
		}
		if rec, _ := got.Record(key("recipe of all")); rec.Name != "c" {
			t.Errorf("%s: the common recipe leads to %q, want the last, c", w, rec.Name)
		}
		before, _ := got.backend.digest(t.Context())
		if err := Write(t.Context(), client, w, l.content(l.step(l.layer(t, "b", 1), "b", "", 1))); err != nil {
			t.Fatal(err)
		}
		if after, _ := got.backend.digest(t.Context()); after != before {
			t.Errorf("%s was written although there was nothing new", w)
		}
	}
}

// memory is a backend to which other writers write at chosen moments.
type memory struct {
	mu                    sync.Mutex
	img                   *layer.Image
	beforeWrite, atSettle func()
}

func (m *memory) read(context.Context) (layer.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.img == nil {
		return layer.Image{}, ErrNotFound
	}
	return *m.img, nil
}

func (m *memory) open(context.Context, layer.Descriptor) (io.ReadCloser, error) {
	return nil, errors.New("no layers here")
}
func (m *memory) edit(context.Context) (func(), error) { return func() {}, nil }

func (m *memory) current(ctx context.Context) (layer.Image, error) { return m.read(ctx) }

func (m *memory) digest(ctx context.Context) (layer.Digest, error) {
	img, _ := m.read(ctx)
	return img.Digest, nil
}

// send is the last operation before a writer checks for concurrent changes.
func (m *memory) send(context.Context, []layer.Descriptor, map[layer.Digest]Source) error {
	if f := m.beforeWrite; f != nil {
		m.beforeWrite = nil
		f()
	}
	return nil
}

func (m *memory) write(_ context.Context, img layer.Image, _ map[layer.Digest]Source) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.img = &img
	return nil
}

func (m *memory) settle(context.Context, time.Duration) error {
	if f := m.atSettle; f != nil {
		m.atSettle = nil
		f()
	}
	return nil
}

func TestWritersAtOnceLoseNothing(t *testing.T) {
	l := newLab()
	step := func(name string) Content { return l.content(l.step(l.layer(t, name, 1), name, "", 1)) }
	add := func(m *memory, name string) {
		if err := write(t.Context(), m, Location{}, step(name)); err != nil {
			t.Fatal(err)
		}
	}
	m := &memory{}
	m.beforeWrite = func() { add(m, "before") }
	m.atSettle = func() { // one that saw nothing of ours writes over it
		other := &memory{}
		add(other, "after")
		m.img = other.img
	}
	add(m, "ours")
	doc, err := decode(m.img.Config, len(m.img.Layers))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range doc.Records {
		names = append(names, r.Name)
	}
	slices.Sort(names)
	if !slices.Contains(names, "ours") || !slices.Contains(names, "after") {
		t.Errorf("the cache has %q, want ours and after", names)
	}
}

func TestImagesAreNotReplaced(t *testing.T) {
	m := &memory{}
	img, err := layer.NewImage([]byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	m.img = &img
	l := newLab()
	err = write(t.Context(), m, Location{}, l.content(l.step(l.layer(t, "a", 1), "a", "", 1)))
	if err == nil || !strings.Contains(err.Error(), "not a cache: choose another name") {
		t.Errorf("writing a cache over an image: %v", err)
	}
}

func TestMergeForgets(t *testing.T) {
	l := newLab()
	day := int64(1000)
	one := func(name string, used int64) state {
		k := l.step(l.layer(t, name, 1), name, "", used)
		it := item{record: k.record(used), blob: k.Record.Layers[0]}
		return state{[]item{it}, map[layer.Digest]indexed{it.blob.DiffID: {data: []byte("x"), used: used}}}
	}
	s := one("old", day-keepDays-1)
	s = merge(s, one("new", day), day)
	if len(s.records) != 1 || s.records[0].Name != "new" || len(s.indexes) != 1 {
		t.Errorf("kept %+v and indexes of %v, want those of new alone", s.records, slices.Collect(maps.Keys(s.indexes)))
	}
	var many state
	many.indexes = map[layer.Digest]indexed{}
	for i := range mostKept + 10 {
		many.records = append(many.records, item{record: record{Keys: []string{key(fmt.Sprint(i))}, Used: day - int64(i%20)}})
	}
	s = merge(many, one("ours", day), day)
	if len(s.records) != mostKept || !s.holds(one("ours", day)) {
		t.Errorf("kept %d records, want %d and ours among them", len(s.records), mostKept)
	}
}

func TestInlineIsDeterministic(t *testing.T) {
	l := newLab()
	a, b := l.layer(t, "a", 1), l.layer(t, "b", 3000)
	c := l.content(l.step(a, "a", "", 5), l.step(b, "b", key("a"), 6), l.step(l.layer(t, "elsewhere", 1), "c", "", 7))
	config := []byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["` + string(a.DiffID) + `","` + string(b.DiffID) + `"]}}`)
	one, err := Inline(config, []layer.Descriptor{a, b}, c)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Inline(config, []layer.Descriptor{a, b}, c)
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("two configs of the same (%v):\n%s\n%s", err, one, two)
	}
	img, err := layer.NewImage(one, []layer.Descriptor{a, b}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := decode(one, 2)
	if err != nil {
		t.Fatal(err)
	}
	got := newCache(Location{}, nil, doc, img.Layers)
	if rec, ok := got.Record(key("b")); !ok || rec.Layers[0].DiffID != b.DiffID {
		t.Errorf("the image does not know its layer b: %+v", rec)
	}
	if _, ok := got.Record(key("c")); ok {
		t.Error("the image knows a step whose layer it lacks")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"cairn.cache":{"version":1,"records":[{"keys":["`+key("a")+`"],"layer":1,"name":"x\u001b[1m"}],"indexes":[{"of":"sha256:`+key("b")+`","data":"AA=="}]}}`), 1)
	f.Add([]byte(`{"cairn.cache":{"version":1,"records":[{"keys":["../../etc"],"layer":-1}]}}`), 0)
	f.Add([]byte(`{"cairn.cache":{"version":1,"records":null}}`), 0)
	f.Fuzz(func(t *testing.T, config []byte, layers int) {
		layers = max(0, min(layers, 10))
		doc, err := decode(config, layers)
		if err != nil {
			return
		}
		blobs := make([]layer.Descriptor, layers)
		for i := range blobs {
			blobs[i] = layer.Descriptor{Digest: layer.Digest("sha256:" + key(fmt.Sprint(i))), DiffID: layer.Digest("sha256:" + key(fmt.Sprint("d", i)))}
		}
		c := newCache(Location{}, nil, doc, blobs)
		for k, r := range c.records {
			if !isKey(k) || strings.ContainsAny(r.Name, "\x1b\n") {
				t.Errorf("key %q, name %q", k, r.Name)
			}
			c.Record(k)
		}
		merged := merge(c.state(), state{indexes: map[layer.Digest]indexed{}}, 0)
		out, all := merged.document()
		raw, err := embed([]byte("{}"), field, out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(raw, len(all)); err != nil {
			t.Errorf("what was written can't be read: %v\n%s", err, raw)
		}
	})
}

// TestTimeout checks that a timeout ends an export, and that its error says so.
func TestTimeout(t *testing.T) {
	t.Parallel()
	w := Location{Dir: t.TempDir(), Timeout: time.Nanosecond}
	ctx, cancel := w.limit(t.Context())
	defer cancel()
	<-ctx.Done()
	if err := overdue(ctx, fmt.Errorf("sending: %w", context.DeadlineExceeded)); err == nil || err.Error() != "not finished after 1ns: set a longer timeout" {
		t.Error(err)
	}
	if err := overdue(ctx, errTaken); !errors.Is(err, errTaken) {
		t.Error(err)
	}
	if ctx, cancel := (Location{}).limit(t.Context()); ctx != t.Context() {
		t.Error("a location without a timeout has one")
	} else {
		cancel()
	}
}
