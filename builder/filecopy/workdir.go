package filecopy

import (
	"fmt"
	"time"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/layer/listing"
)

// Workdir returns the changes of a WORKDIR to a tree: the missing directories,
// owned by the current user. There are none if the directory exists.
func Workdir(below Tree, o op.Workdir, now time.Time, warn func(format string, args ...any)) (_ *Changes, err error) {
	attrs := listing.Entry{Mode: 0o755, MTime: now.Unix()}
	if o.User != "" {
		if attrs.UID, attrs.GID, err = Owner(below.View, o.User, warn); err != nil {
			return nil, fmt.Errorf("the owner of %s: %w", o.Path, err)
		}
	}
	d := newDestination(below, o.Epoch)
	dir, err := d.resolve(o.Path)
	if err != nil {
		return nil, err
	}
	if err := d.mkdirs(dir, attrs); err != nil {
		return nil, err
	}
	if i, ok := d.index[dir]; ok && o.Epoch != nil { // like BuildKit, which sets the time of the last directory
		d.list[i].MTime, d.list[i].Time = *o.Epoch, nil
	}
	return d.changes()
}
