package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	web "github.com/cairn-build/cairn/builder/source/http"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry/layout"
)

const (
	imageScheme  = "docker-image://"
	layoutScheme = "oci-layout://"
)

// inputs are the contexts of a build.
type inputs struct {
	main     tree                   // the main one
	named    map[string]plan.Named  // those of --build-context
	values   map[string]string      // what they are, by name
	trees    map[string]tree        // those of values that were looked at
	contexts map[string]*source.Dir // those that are needed, and the main one

	repositories *git.Source  // nil until there is one to ask
	web          *web.Fetcher // as well
}

func (in *inputs) close() {
	if in.web != nil {
		in.web.Close()
	}
	for name, d := range in.contexts {
		if name != "" {
			leave(d)
		}
	}
}

// leave closes a context. What was learnt of its files is for the next build; to
// lose it costs only time.
func leave(d *source.Dir) {
	_ = d.SaveHints()
	d.Close()
}

// readContexts reads the values of --build-context. Files are looked at when it is
// known that a step needs them; what is missing on this machine is told at once.
func (j *job) readContexts(ctx context.Context) error {
	j.named = map[string]plan.Named{}
	j.values = map[string]string{}
	j.trees = map[string]tree{}
	for _, c := range j.opt.Contexts {
		name, err := plan.ContextName(c.Name)
		if err == nil {
			j.named[name], err = j.namedOf(ctx, c.Value)
		}
		if err != nil {
			return fmt.Errorf("build context %s: %w", c.Name, err)
		}
		j.values[name] = c.Value
	}
	return nil
}

// namedOf tells images from files.
func (j *job) namedOf(ctx context.Context, value string) (plan.Named, error) {
	if _, err := git.Parse(value); isURL(value) || !errors.Is(err, git.ErrNotGit) && !onThisMachine(value) {
		return plan.Named{}, ignoring(err, git.ErrNotGit)
	}
	if ref, ok := strings.CutPrefix(value, imageScheme); ok {
		if ref == "scratch" {
			return plan.Named{Image: ref}, nil
		}
		full, err := j.full(ctx, ref)
		return plan.Named{Image: full}, err
	}
	if dir, ok := strings.CutPrefix(value, layoutScheme); ok {
		dir, _, _ = strings.Cut(dir, "@")
		dir, _, _ = strings.Cut(dir, ":")
		_, err := os.Stat(dir)
		return plan.Named{Image: value}, err
	}
	if scheme, _, ok := strings.Cut(value, "://"); ok {
		return plan.Named{}, fmt.Errorf("%s:// is not supported: there are directories, files, docker-image://, oci-layout://, http(s):// and git URLs", scheme)
	}
	_, err := os.Stat(value)
	return plan.Named{}, err
}

// layoutImage finds an image for a platform in an OCI layout, given as
// oci-layout://DIR[:TAG][@DIGEST], and takes its layers into the store.
func (j *job) layoutImage(ref string, p layer.Platform) (layer.Image, error) {
	dir, digest, _ := strings.Cut(strings.TrimPrefix(ref, layoutScheme), "@")
	dir, tag, ok := strings.Cut(dir, ":")
	if !ok {
		tag = "latest"
	}
	a, err := layout.ReadOCI(dir)
	if err != nil {
		return layer.Image{}, err
	}
	defer a.Close()
	found, err := a.Find(tag, layer.Digest(digest))
	if err != nil {
		return layer.Image{}, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	img, err := suitable(found, p)
	if err != nil {
		return img, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	for _, b := range img.Layers {
		if err := j.keep(a, b); err != nil {
			return img, fmt.Errorf("OCI layout %s: %w", dir, err)
		}
	}
	return img, nil
}

// suitable picks the best image for a platform. Where there is one only, it is
// meant.
func suitable(found []layout.Named, p layer.Platform) (layer.Image, error) {
	if len(found) == 1 {
		return found[0].Image, nil
	}
	for _, q := range p.Compatible() {
		for _, n := range found {
			if q.Matches(n.Platform) {
				return n.Image, nil
			}
		}
	}
	return layer.Image{}, fmt.Errorf("it has no image for %s", p)
}

func (j *job) keep(a *layout.Archive, b layer.Blob) error {
	if _, ok := j.Store.BlobSize(b.Digest); ok {
		return nil
	}
	r, err := a.Open(b)
	if err != nil {
		return err
	}
	defer r.Close()
	return j.Store.PutBlob(b.Digest, b.Size, r)
}

// epochOf gives the time of what SOURCE_DATE_EPOCH names. A directory has none.
func (j *job) epochOf(ctx context.Context, s plan.EpochSource) (*int64, error) {
	if s.Remote != nil {
		return j.remoteTime(ctx, s.Remote)
	}
	t := j.main
	if s.Context != "context" {
		var err error
		if t, err = j.namedTree(ctx, s.Context); err != nil {
			return nil, fmt.Errorf("build context %s: %w", s.Context, err)
		}
	}
	if t.dated != nil && t.modified == nil {
		var err error
		if t, err = t.dated(ctx); err != nil {
			return nil, err
		}
	}
	return t.time(), nil
}

// enterNamed opens the contexts that a step needs.
func (j *job) enterNamed(ctx context.Context) error {
	used := map[string]bool{}
	seen := map[*solve.Step]bool{}
	var visit func(s *solve.Step) error
	visit = func(s *solve.Step) error {
		if s == nil || seen[s] {
			return nil
		}
		seen[s] = true
		if plan.Kind(s) == "context" {
			op, err := plan.DecodeOp(s)
			if err != nil {
				return err
			}
			used[op.(plan.Context).Name] = true
		}
		for _, in := range s.In {
			if err := visit(in.Step); err != nil {
				return err
			}
		}
		return nil
	}
	for _, img := range j.images {
		if err := visit(img.planned.Root); err != nil {
			return err
		}
	}
	j.contexts = map[string]*source.Dir{"": j.context}
	for name := range used {
		if name == "" {
			continue
		}
		d, err := j.openNamed(ctx, name)
		if err != nil {
			return fmt.Errorf("build context %s: %w", name, err)
		}
		j.contexts[name] = d
	}
	return nil
}

// namedTree gets the files of one context.
func (j *job) namedTree(ctx context.Context, name string) (tree, error) {
	if t, ok := j.trees[name]; ok {
		return t, nil
	}
	value, shown := j.values[name], "[context "+name+"] "
	t, err := j.namedRemote(ctx, value, shown+source.Redact(value))
	if errors.Is(err, errLocal) {
		t, err = j.local(ctx, value, shown+"load from client")
	}
	var file *notArchive
	if errors.As(err, &file) {
		t, err = j.single(file.path)
	}
	if err == nil {
		j.trees[name] = t
	}
	return t, err
}

// openNamed opens one context of files, behind its own ignore file if it is a
// directory.
func (j *job) openNamed(ctx context.Context, name string) (*source.Dir, error) {
	t, err := j.namedTree(ctx, name)
	if err != nil {
		return nil, err
	}
	if !t.own {
		return t.open()
	}
	ignore, _, err := source.ReadIgnore(t.dir, "")
	if err != nil {
		return nil, err
	}
	return source.OpenDir(t.dir, ignore, j.Store)
}

// single makes a directory that holds a copy of one file.
func (j *job) single(path string) (t tree, err error) {
	from, err := os.Open(path)
	if err != nil {
		return t, err
	}
	defer from.Close()
	fi, err := from.Stat()
	if err != nil {
		return t, err
	}
	return j.alone(filepath.Base(path), from, fi.Mode(), fi.ModTime())
}

// alone makes a directory of one file.
func (j *job) alone(name string, from io.Reader, mode fs.FileMode, at time.Time) (t tree, err error) {
	t.file = name
	if t.dir, err = j.Store.TempDir("context"); err != nil {
		return t, err
	}
	to, err := os.OpenFile(filepath.Join(t.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return t, err
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chmod(mode), to.Close())
	return t, errors.Join(err, os.Chtimes(to.Name(), at, at))
}
