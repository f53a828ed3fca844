package tarball

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-build/cairn/layer"
)

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func digestOf(b []byte) layer.Digest { return layer.FromBytes(b) }

func listXAttrs(path string) ([]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(list[:max(n, 0)]), "\x00"), "\x00"), err
}
