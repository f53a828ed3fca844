package tarball

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cairn-build/cairn/layer/index"
)

// Apply unpacks a tar into dir, an empty directory, as a tree in overlay form.
// It reads r to its end and returns the same index as Scan. On an error what
// was made so far stays in dir.
func Apply(dir string, r io.Reader, o ApplyOptions) (*index.Index, error) {
	u, err := newUnpacker(dir, o)
	if err != nil {
		return nil, err
	}
	defer u.dirs.close()
	s := newScanner(r, o.Limits)
	s.disk, s.plain = u, o.Plain
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := u.finish(); err != nil {
		return nil, err
	}
	return s.tree.index(), nil
}

// Materialize makes in dir, an empty directory, the tree that applying the tar
// of changes would make.
func Materialize(dir string, changes iter.Seq2[Change, error]) error {
	return MaterializeOver(dir, changes, ApplyOptions{})
}

// MaterializeOver is Materialize with options: parents that the changes lack
// are those of the layers below.
func MaterializeOver(dir string, changes iter.Seq2[Change, error], o ApplyOptions) error {
	u, err := newUnpacker(dir, o)
	if err != nil {
		return err
	}
	defer u.dirs.close()
	c := newCopier()
	for ch, err := range changes {
		if err != nil {
			return err
		}
		if err := u.change(&ch, c); err != nil {
			return fmt.Errorf("%s: %w", ch.Path, err)
		}
	}
	return u.finish()
}

func (u *unpacker) change(ch *Change, c *copier) error {
	if err := checkName(&ch.Entry); err != nil {
		return err
	}
	e := ch.Entry
	canonical(&e)
	switch e.Type {
	case index.TypeWhiteout, index.TypeOpaque:
		return u.hide(e.Path, e.Type == index.TypeOpaque)
	case index.TypeHardlink:
		if !index.ValidPath(e.Link) {
			return errors.New("hard link to a path that is not clean and relative")
		}
		return u.link(e.Path, e.Link)
	case index.TypeSymlink:
		if err := checkLink(&e); err != nil {
			return err
		}
	}
	return u.put(e.Path, &e, func(w io.Writer, e *index.Entry) error { return c.change(w, ch) })
}
