package tarball

import (
	"slices"

	"github.com/cairn-build/cairn/layer"
)

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func digestOf(b []byte) layer.Digest { return layer.FromBytes(b) }
