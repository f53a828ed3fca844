package sandbox

import (
	"github.com/cairn-build/cairn/builder/sandbox/runtime/wire"

	"fmt"
	"path/filepath"
	"strings"
)

// mounts checks and converts mounts.
func mounts(list []Mount) ([]wire.Mount, error) {
	var out []wire.Mount
	for _, m := range list {
		if err := m.check(); err != nil {
			return nil, fmt.Errorf("mount on %q: %w", m.Target, err)
		}
		mode := int64(m.Mode)
		if mode == 0 && m.Type == "tmpfs" {
			mode = 0o1777
		}
		out = append(out, wire.Mount{
			Type: m.Type, Target: m.Target, ReadOnly: m.ReadOnly,
			Source: m.Source, Lowers: m.Lowers, Upper: m.Upper, Work: m.Work, Subpath: m.Subpath,
			Size: m.Size, Data: m.Data, UID: int64(m.UID), GID: int64(m.GID), Mode: mode,
		})
	}
	return out, nil
}

func (m *Mount) check() error {
	switch m.Type {
	case "bind", "cache", "socket":
		if !filepath.IsAbs(m.Source) {
			return fmt.Errorf("source %q is not absolute", m.Source)
		}
	case "overlay":
		if m.Upper == "" && !m.ReadOnly {
			return fmt.Errorf("a writable overlay needs an upper directory")
		}
	case "tmpfs", "file", "layers":
	default:
		return fmt.Errorf("unknown type %q: use bind, overlay, tmpfs, file, layers, cache or socket", m.Type)
	}
	for _, text := range append([]string{m.Source, m.Target, m.Upper, m.Work, m.Subpath}, m.Lowers...) {
		if strings.ContainsRune(text, 0) {
			return fmt.Errorf("%q has a zero byte", text)
		}
	}
	return nil
}
