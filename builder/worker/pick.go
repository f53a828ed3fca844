package worker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/index"
)

// picked is what a selection picks from an origin: for each of its paths, the
// matches in order.
type picked struct {
	paths  [][]match
	digest string
}

// match is one path that a source matched, with what is below it. The head of files is
// the path itself, where its symlinks lead.
type match struct {
	name  string // its last element as matched: what a file is called in a directory
	files files
	whole bool // a directory is copied itself, where the destination is missing
}

// rel gives a file's path relative to the match: "." for itself.
func (m match) rel(f file) string {
	root := m.files.head.Path
	switch {
	case f.Path == root:
		return "."
	case root == ".":
		return f.Path
	}
	return f.Path[len(root)+1:]
}

type pickKey struct {
	r   *Result
	sel string
}

// bulky is how many files are too many to be kept for another step that might
// copy the same, or to be set one by one.
const bulky = 20_000

// pick carries out a selection, once for each result, unless it is a bulky one.
func (w *Worker) pick(ctx context.Context, r *Result, sel string) (*picked, error) {
	key := pickKey{r, sel}
	return w.picks.do(key, func() (*picked, error) {
		s, err := plan.DecodeSelection(sel)
		if err != nil {
			return nil, err
		}
		o, err := w.origin(ctx, r)
		if err != nil {
			return nil, err
		}
		p := &picked{}
		for _, sp := range s.Paths {
			ms, err := pickPath(ctx, o, sp, s.Exclude)
			if err != nil {
				return nil, err
			}
			p.paths = append(p.paths, ms)
		}
		p.digest = digestOf(s, p.paths)
		if was, again := w.digests.LoadOrStore(key, p.digest); again && was != p.digest {
			return nil, errors.New("what is copied changed during the build")
		}
		return p, nil
	})
}

// unpick lets go of what was picked, if that is much. Who wants it once more has
// it picked again.
func (w *Worker) unpick(r *Result, sel string, p *picked) {
	n := 0
	for _, ms := range p.paths {
		for _, m := range ms {
			n += m.files.n
		}
	}
	if n > bulky {
		w.picks.forget(pickKey{r, sel})
	}
}

func (w *Worker) origin(ctx context.Context, r *Result) (origin, error) {
	if r.dir != nil {
		return contextOrigin{r.dir}, nil
	}
	if r.alone != nil {
		return fileOrigin{*r.alone}, nil
	}
	v, err := w.FullView(ctx, r)
	if err != nil {
		return nil, err
	}
	return treeOrigin{w.ctx, r, v}, nil
}

// pickPath finds what one path of a selection matches.
func pickPath(ctx context.Context, o origin, sp plan.SelPath, exclude []string) ([]match, error) {
	if sp.Required {
		if _, err := o.Follow(path.Join(sp.Path, sp.Include)); err != nil {
			return nil, notFound(ctx, o, path.Join(sp.Path, sp.Include), err)
		}
	}
	names := []string{clean(sp.Path)}
	if !sp.Literal {
		var err error
		if names, err = o.Glob(ctx, sp.Path); err != nil {
			return nil, notFound(ctx, o, lead(sp.Path), err)
		}
	}
	opt := source.WalkOptions{Exclude: exclude}
	if sp.Parents {
		opt.Include = []string{sp.Include}
	}
	var out []match
	for _, name := range names {
		top, err := o.Follow(name)
		if err != nil {
			return nil, notFound(ctx, o, name, err)
		}
		list, err := o.Scan(ctx, top.Path, opt)
		if err != nil {
			return nil, err
		}
		if sp.Required && !holds(list, path.Join(top.Path, sp.Include)) {
			return nil, notFound(ctx, o, path.Join(sp.Path, sp.Include), fs.ErrNotExist)
		}
		if list.n > 0 {
			out = append(out, match{path.Base(name), list, sp.Literal})
		}
	}
	return out, nil
}

// lead is what of a pattern comes before its first element with a wildcard: that
// must be there, whatever matches below.
func lead(pattern string) string {
	at := "/"
	for elem := range strings.SplitSeq(clean(pattern), "/") {
		if wild(elem) {
			break
		}
		at = path.Join(at, elem)
	}
	return at
}

// holds tells whether a path is among files, or something below it: a symbolic
// link on the way hides it from --parents.
func holds(list files, p string) bool {
	for _, f := range list.all() {
		if f.Path == p || strings.HasPrefix(f.Path, p+"/") {
			return true
		}
	}
	return false
}

// notFound names a source that is not there, or hidden by the ignore file, as
// the Dockerfile does.
func notFound(ctx context.Context, o origin, name string, err error) error {
	var ignored *source.IgnoredError
	if errors.As(err, &ignored) {
		return fmt.Errorf("%q: not found: the ignore file leaves it out by the pattern %q", "/"+clean(name), ignored.Pattern)
	}
	if errors.Is(err, source.ErrSpecial) {
		return fmt.Errorf("%q: it is a socket or a device, which no build context holds", "/"+clean(name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		where := "the image or stage that it is copied from"
		if _, ok := o.(contextOrigin); ok {
			where = "the build context"
		}
		if near := nearby(ctx, o, clean(name)); near != "" {
			where += " (did you mean /" + near + "?)"
		}
		return fmt.Errorf("%q: not found in %s", "/"+clean(name), where)
	}
	return err
}

// nearby looks for what is called nearly as the first element of a path that is not
// there: the path with that in its place, as far as it leads.
func nearby(ctx context.Context, o origin, name string) string {
	dir, rest := ".", strings.Split(name, "/")
	for ; len(rest) > 0; dir, rest = path.Join(dir, rest[0]), rest[1:] {
		if wild(rest[0]) {
			return ""
		}
		if _, err := o.Follow(path.Join(dir, rest[0])); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if len(rest) == 0 {
		return ""
	}
	there, err := o.Glob(ctx, path.Join(dir, "*"))
	if err != nil {
		return ""
	}
	var names []string // that begin as it does: what else is near is seldom meant
	for _, p := range there {
		if n := path.Base(p); strings.EqualFold(n[:1], rest[0][:1]) {
			names = append(names, n)
		}
	}
	guess := dockerfile.Suggest(rest[0], names)
	if guess == "" {
		return ""
	}
	near := path.Join(dir, guess)
	if whole := path.Join(append([]string{near}, rest[1:]...)...); leads(o, whole) {
		return whole
	}
	return near
}

func leads(o origin, name string) bool {
	_, err := o.Follow(name)
	return err == nil
}

// Observe implements [solve.Runner]: the content of a selection. What is picked
// from an image that nobody has read yet counts as the image.
func (w *Worker) Observe(ctx context.Context, r *Result, sel string) (string, error) {
	if sel == "" || r.dir == nil && w.unread(r) {
		return "", nil
	}
	if digest, ok := w.digests.Load(pickKey{r, sel}); ok {
		return digest.(string), nil
	}
	p, err := w.pick(ctx, r, sel)
	if err != nil {
		return "", err
	}
	return p.digest, nil
}

// unread tells whether a layer would have to be fetched just to be observed.
func (w *Worker) unread(r *Result) bool {
	for _, l := range r.Layers() {
		if l.image == nil {
			continue
		}
		if _, err := w.Store.Index(l.blob.DiffID); err != nil {
			return true
		}
	}
	return false
}

// digestOf hashes what was picked: every name, type, mode, owner, attribute,
// link and content, and nothing that a copy leaves behind. A path without a
// match counts as such.
func digestOf(s plan.Selection, paths [][]match) string {
	d := digester{h: sha256.New(), sel: s}
	for _, ms := range paths {
		d.number(int64(len(ms)))
		for _, m := range ms {
			d.text(m.name)
			d.number(int64(m.files.n))
			groups := map[any]int64{}
			for i, f := range m.files.all() {
				d.text(m.rel(f))
				d.entry(f)
				d.group(groups, f, int64(i))
			}
		}
	}
	return hex.EncodeToString(d.h.Sum(nil))
}

type digester struct {
	h   hash.Hash
	sel plan.Selection
}

func (d digester) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	d.h.Write(b[:])
}

func (d digester) text(s string) {
	d.number(int64(len(s)))
	d.h.Write([]byte(s))
}

func (d digester) entry(f file) {
	e := f.Entry
	d.number(int64(e.Type))
	if !d.sel.AnyMode || f.lead || e.Type == index.TypeSymlink {
		d.number(int64(e.Mode))
	}
	if !d.sel.AnyOwner {
		d.number(int64(e.UID))
		d.number(int64(e.GID))
	}
	d.text(e.Link)
	d.number(int64(e.Major)<<32 | int64(e.Minor))
	d.text(string(e.Digest))
	d.number(int64(len(e.XAttrs)))
	for _, k := range slices.Sorted(maps.Keys(e.XAttrs)) {
		d.text(k)
		d.text(e.XAttrs[k])
	}
	if d.sel.Epoch != nil {
		d.number(min(e.MTime, *d.sel.Epoch))
	}
}

// group tells which earlier file of the match a hard link belongs to.
func (d digester) group(seen map[any]int64, f file, i int64) {
	if f.group == nil || f.Type != index.TypeFile {
		return
	}
	if first, ok := seen[f.group]; ok {
		d.number(first)
		return
	}
	seen[f.group] = i
}
