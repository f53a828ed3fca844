package corpus_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/compress"
)

// image is the content of an OCI archive.
type image struct {
	digest      string // of the manifest
	config      []byte
	diffIDs     []layer.Digest
	layers      [][]entry
	annotations map[string]string
}

// entry is a file of a layer.
type entry struct {
	tar.Header
	content string
}

// parsed caches the entries of layers by blob digest.
var parsed sync.Map

// readImage reads an OCI archive and its blobs.
func readImage(t *testing.T, name string) image {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	eachEntry(t, f, func(h *tar.Header, data []byte) { files[path.Clean(h.Name)] = data })
	blob := func(d layer.Digest) []byte { return files["blobs/sha256/"+d.Hex()] }
	type descriptor struct{ Digest layer.Digest }
	var index struct{ Manifests []descriptor }
	var m struct {
		Config      descriptor
		Layers      []descriptor
		Annotations map[string]string
	}
	decode(t, files["index.json"], &index)
	decode(t, blob(index.Manifests[0].Digest), &m)
	img := image{digest: string(index.Manifests[0].Digest), config: blob(m.Config.Digest), annotations: m.Annotations}
	var config struct {
		RootFS struct {
			DiffIDs []layer.Digest `json:"diff_ids"`
		}
	}
	decode(t, img.config, &config)
	img.diffIDs = config.RootFS.DiffIDs
	for _, l := range m.Layers {
		img.layers = append(img.layers, entries(t, l.Digest, blob(l.Digest)))
	}
	return img
}

func decode(t *testing.T, data []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%v in %.200q", err, data)
	}
}

func entries(t *testing.T, d layer.Digest, blob []byte) (list []entry) {
	t.Helper()
	if known, ok := parsed.Load(d); ok {
		return known.([]entry)
	}
	r, err := compress.NewReader(bytes.NewReader(blob))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	eachEntry(t, r, func(h *tar.Header, data []byte) { list = append(list, entry{*h, string(data)}) })
	parsed.Store(d, list)
	return list
}

func eachEntry(t *testing.T, r io.Reader, f func(*tar.Header, []byte)) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		f(h, data)
	}
}

// tree is a file system by path. Hard links share an entry.
type tree map[string]*entry

func (t tree) apply(layer []entry) {
	for i := range layer {
		e := &layer[i]
		name := path.Join("/", e.Name)
		dir, base := path.Split(name)
		switch hidden, whiteout := strings.CutPrefix(base, ".wh."); {
		case base == ".wh..wh..opq":
			t.remove(path.Clean(dir), false)
		case whiteout:
			t.remove(dir+hidden, true)
		case e.Typeflag == tar.TypeLink:
			t.remove(name, true)
			t[name] = t[path.Join("/", e.Linkname)]
		default:
			if old := t[name]; old != nil && (old.Typeflag != tar.TypeDir || e.Typeflag != tar.TypeDir) {
				t.remove(name, true)
			}
			t[name] = e
		}
	}
}

func (t tree) remove(name string, itself bool) {
	for p := range t {
		if itself && p == name || strings.HasPrefix(p, strings.TrimSuffix(name, "/")+"/") && p != "/" {
			delete(t, p)
		}
	}
}

// describe returns the text to compare: files that differ from the base image, config,
// and annotations.
func (l *lab) describe(t *testing.T, c *testcase, img image) string {
	t.Helper()
	var out strings.Builder
	base, all := tree{}, tree{}
	bases := l.bases.depth(img.diffIDs)
	for i, entries := range img.layers {
		if i < bases {
			base.apply(entries)
		}
		all.apply(entries)
	}
	l.list(&out, c, base, all)
	if c.layers {
		out.WriteString(img.listLayers(t, bases))
	}
	out.WriteString(describeConfig(t, img, c.noEpoch))
	for _, k := range slices.Sorted(maps.Keys(img.annotations)) {
		fmt.Fprintf(&out, "annotation %s=%s\n", k, img.annotations[k])
	}
	return out.String()
}

// listLayers lists the paths in the layers of COPY, ADD and WORKDIR, without the first
// layers, which are those of the base image.
func (img image) listLayers(t *testing.T, bases int) string {
	t.Helper()
	var config struct {
		History []struct {
			CreatedBy  string `json:"created_by"`
			EmptyLayer bool   `json:"empty_layer"`
		}
	}
	decode(t, img.config, &config)
	var out strings.Builder
	n := 0
	for _, h := range config.History {
		if h.EmptyLayer {
			continue
		}
		if n++; n <= bases || strings.HasPrefix(h.CreatedBy, "RUN") {
			continue
		}
		names := []string{fmt.Sprintf("layer %d:", n-bases)}
		for _, e := range img.layers[n-1] {
			names = append(names, e.Name)
		}
		slices.Sort(names[1:])
		fmt.Fprintln(&out, strings.Join(names, " "))
	}
	return out.String()
}

func (l *lab) list(out io.Writer, c *testcase, base, all tree) {
	for _, name := range slices.Sorted(maps.Keys(base)) {
		if all[name] == nil {
			fmt.Fprintf(out, "removed %s\n", name)
		}
	}
	first := map[*entry]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		if base[name] != nil && l.line(c, base[name]) == l.line(c, e) {
			continue
		}
		shown := name
		if quoted := strconv.Quote(name); strings.Contains(quoted, `\`) {
			shown = quoted
		}
		fmt.Fprint(out, strings.Replace(l.line(c, e), " ", " "+shown+" ", 1))
		if other := first[e]; other != "" {
			fmt.Fprintf(out, " links %s", other)
		} else {
			first[e] = name
		}
		fmt.Fprintln(out)
	}
}

// line describes a file without its name. The time is relative to the epoch, or "old"
// for files of the context. Without an epoch, times after it are omitted.
func (l *lab) line(c *testcase, e *entry) string {
	kind := map[byte]string{tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeFifo: "fifo", tar.TypeChar: "char", tar.TypeBlock: "block"}[e.Typeflag]
	var out strings.Builder
	fmt.Fprintf(&out, "%s %04o %d:%d", kind, e.Mode&0o7777, e.Uid, e.Gid)
	switch at := e.ModTime.Unix() - epoch; {
	case e.ModTime.Equal(c.old()):
		out.WriteString(" old")
	case !c.noEpoch || at < 0:
		fmt.Fprintf(&out, " %+ds", at)
	}
	switch {
	case e.Typeflag == tar.TypeSymlink:
		fmt.Fprintf(&out, " -> %s", e.Linkname)
	case e.Typeflag == tar.TypeChar || e.Typeflag == tar.TypeBlock:
		fmt.Fprintf(&out, " %d:%d", e.Devmajor, e.Devminor)
	case e.content == l.busybox:
		out.WriteString(" (busybox)")
	case strings.HasPrefix(e.content, "\x1f\x8b"): // written by the machine's gzip
		out.WriteString(" (gzip)")
	case len(e.content) > 300:
		fmt.Fprintf(&out, " %d bytes, %s", len(e.content), layer.FromBytes([]byte(e.content)))
	case e.Typeflag == tar.TypeReg:
		fmt.Fprintf(&out, " %q", e.content)
	}
	for _, k := range slices.Sorted(maps.Keys(e.PAXRecords)) {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			fmt.Fprintf(&out, " %s=%q", name, e.PAXRecords[k])
		}
	}
	return out.String()
}

// describeConfig prints the config without the parts that depend on the machine: its
// architecture, and the digests of layers with its busybox.
func describeConfig(t *testing.T, img image, mask bool) string {
	t.Helper()
	var config map[string]any
	decode(t, img.config, &config)
	maps.DeleteFunc(config, func(_ string, v any) bool { return v == nil })
	config["rootfs"] = fmt.Sprintf("%d layers", len(img.diffIDs))
	if config["architecture"] == runtime.GOARCH {
		config["architecture"] = "(this machine's)"
		delete(config, "variant") // arm64 has one
	}
	if mask {
		if config["created"] != baseCreated {
			config["created"] = "(masked)"
		}
		history, _ := config["history"].([]any)
		for _, h := range history {
			if h, ok := h.(map[string]any); ok && h["created"] != baseCreated {
				h["created"] = "(masked)"
			}
		}
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(config); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
