package dockerfile

import (
	"fmt"
	"math"
	"sync"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// Mount is one --mount of a RUN. Before [Expand] only From is known for
// certain: options may hold variables.
type Mount struct {
	Type     string // bind, cache, tmpfs, secret or ssh
	From     string // stage, image or context; "" is the build context, or nothing
	Source   string
	Target   string
	ReadOnly bool
	Size     int64   // of a tmpfs in bytes; 0: the kernel's default
	ID       string  // of a cache, secret or ssh agent; "" is its default
	Sharing  string  // shared, private or locked; "" is shared
	Env      *string // the variable that gets a secret
	Required bool
	Mode     *uint32 // permission bits
	UID, GID *uint32
}

// mountFlags are a RUN's --mount flags, which BuildKit's parser reads again when
// variables are expanded. Plans may be made at once of one file.
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
		// The parser multiplies floating point numbers: what comes of one that is too
		// large differs between processors.
		if m.Size < 0 || m.Size == math.MaxInt64 {
			return nil, fmt.Errorf("invalid value for size of the mount at %s: it has to be less than 8 EiB", m.Target)
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

// short copies a number that was parsed as one of 32 bits.
func short(n *uint64) *uint32 {
	if n == nil {
		return nil
	}
	s := uint32(*n)
	return &s
}
