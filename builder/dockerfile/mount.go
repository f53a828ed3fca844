package dockerfile

import (
	"fmt"
	"math"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// Mount is one --mount of a RUN. Before [Expand] only From is final: the other
// options may contain variables.
type Mount struct {
	Type     string // bind, cache, tmpfs, secret or ssh
	From     string // stage, image or context; "" is the main context, or an empty cache
	Source   string
	Target   string
	ReadOnly bool
	Size     int64   // of a tmpfs in bytes; 0: the kernel's default
	ID       string  // of a cache, secret or ssh agent; "" is its default
	Sharing  string  // shared, private or locked; "" is shared
	Env      *string // variable that gets a secret
	Required bool
	Mode     *uint32 // permission bits
	UID, GID *uint32
}

// mountFlags returns the --mount flags of a RUN. BuildKit's parser parses them
// again when variables are expanded, and several plans may do so concurrently.
type mountFlags struct {
	mu  sync.Mutex
	cmd *instructions.RunCommand
}

func (f *mountFlags) expand(word func(string) (string, error)) ([]Mount, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.cmd.Expand(word); err != nil {
		return nil, err
	}
	mounts := newMounts(f.cmd)
	for _, m := range mounts {
		// The parser multiplies floating-point numbers: the result of one that is too
		// large depends on the processor.
		if m.Size < 0 || m.Size == math.MaxInt64 {
			return nil, fmt.Errorf("invalid value for size of the mount at %s: must be less than 8 EiB", m.Target)
		}
	}
	return mounts, nil
}

func newMounts(c *instructions.RunCommand) []Mount {
	var out []Mount
	for _, m := range instructions.GetMounts(c) {
		out = append(out, Mount{
			Type: string(m.Type), From: m.From, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly,
			Size: m.SizeLimit, ID: m.CacheID, Sharing: string(m.CacheSharing), Env: m.Env, Required: m.Required,
			Mode: short(m.Mode), UID: short(m.UID), GID: short(m.GID),
		})
	}
	return out
}

// short converts a number that was parsed with 32 bits.
func short(n *uint64) *uint32 {
	if n == nil {
		return nil
	}
	s := uint32(*n)
	return &s
}
