package diff

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer/tarball"
)

// List returns everything in a directory, including its root, as the changes of a
// layer. It changes nothing. The directory must not change until the changes have
// been read.
func List(ctx context.Context, root string) ([]tarball.Change, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	defer unix.Close(fd)
	s := &scan{ctx: ctx, upper: place{fd, ""}}
	if err := s.run(nil); err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	for _, n := range s.nodes {
		n.emit = !n.socket && !n.missing
	}
	return s.result(root).Changes, nil
}
