package images

import (
	"context"
	"fmt"

	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/layer"
)

// Tools is an image that can be mounted in a step.
type Tools struct {
	m   *Manager
	ref string
	img layer.Image
}

// OpenTools finds an image for this machine in the store, or else pulls it.
func (m *Manager) OpenTools(ctx context.Context, ref string) (*Tools, error) {
	t, ok, err := m.LookupName(ref)
	if !ok {
		if err != nil {
			return nil, err
		}
		name, _, err := m.Pull(ctx, ref, layer.HostPlatform())
		if err != nil {
			return nil, err
		}
		if t, err = m.Store.Tagged(name); err != nil {
			return nil, err
		}
	}
	img, err := ForPlatform(t, ref, layer.Platform{})
	if err != nil {
		return nil, err
	}
	return &Tools{m, t.Ref, img}, nil
}

// Mount returns a read-only mount of the image without a target, and a function that
// releases it.
func (t *Tools) Mount(ctx context.Context) (sandbox.Mount, func(), error) {
	none := func() {}
	stack := t.m.Snapshots(ctx).StoredImage(t.img, t.ref)
	if t.m.Isolation.Mode == sandbox.Gvisor {
		layers, err := stack.GuestLayers(ctx)
		return sandbox.Mount{Type: "layers", Layers: layers, ReadOnly: true}, none, err
	}
	lowers, err := stack.Trees(ctx)
	if err != nil {
		return sandbox.Mount{}, none, err
	}
	if len(lowers) == 0 {
		return sandbox.Mount{}, none, fmt.Errorf("image %s has no files", t.ref)
	}
	// It has the attributes of the root directory.
	upper, err := stack.NewUpper(ctx)
	if err != nil {
		return sandbox.Mount{}, none, err
	}
	m := sandbox.Mount{Type: "overlay", Lowers: append([]string{upper.Dir}, lowers...), ReadOnly: true}
	return m, func() { upper.Close() }, nil
}
