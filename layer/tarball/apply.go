package tarball

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/cairn-build/cairn/layer/listing"
)

// Apply unpacks a tar into the empty directory dir as a tree in overlay form. It
// reads r to the end and returns the same listing as Scan. After an error dir holds
// the part that was unpacked.
func Apply(dir string, r io.Reader, o ApplyOptions) (*listing.Listing, error) {
	u, err := newUnpacker(dir, o)
	if err != nil {
		return nil, err
	}
	defer u.dirs.close()
	s := newScanner(r, o.Limits)
	s.disk, s.plain = u, o.Plain
	if o.Times != nil {
		s.times = o.Times.reader()
	}
	if err := s.run(); err != nil {
		return nil, err
	}
	if err := u.finish(); err != nil {
		return nil, err
	}
	return s.model.listing(), nil
}

// Materialize makes in the empty directory dir the tree that unpacking the tar of
// changes would make, with the exact times of files.
func Materialize(dir string, changes iter.Seq2[Change, error]) error {
	return MaterializeOver(dir, changes, ApplyOptions{})
}

// MaterializeOver is Materialize with options. Parents that the changes lack come
// from the layers below.
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
	case listing.TypeWhiteout, listing.TypeOpaque:
		return u.hide(e.Path, e.Type == listing.TypeOpaque)
	case listing.TypeHardlink:
		if !listing.ValidPath(e.Link) {
			return errors.New("hard link to a path that is not clean and relative")
		}
		return u.link(e.Path, e.Link)
	case listing.TypeSymlink:
		if err := checkLink(&e); err != nil {
			return err
		}
	}
	u.times[&e] = ch.exact(nil)
	return u.putTimed(e.Path, &e, func(w io.Writer, _ *listing.Entry) error {
		opened, err := c.change(w, ch)
		u.times[&e] = ch.exact(opened)
		return err
	})
}
