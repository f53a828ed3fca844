// Package container runs commands in a kernel, each in namespaces of its own.
package container

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/sentry/vfs"

	"github.com/cairn-build/cairn/builder/sandbox/runtime/guest"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/layerfs"
	"github.com/cairn-build/cairn/cmd/cairn-gvisor/sentry"
)

// Server runs the commands of one build.
type Server struct {
	k      *sentry.Kernel
	serial atomic.Int64

	mu        sync.Mutex
	groupRoot *vfs.Mount // of control groups, nil until they are used
	layers    map[string]*layerfs.Layer
	stacks    map[string]*layerfs.Stack // by the IDs of their layers, each ending in a zero byte
	caches    map[string]*sharedCache   // by source
}

// NewServer returns a server that runs commands in k.
func NewServer(k *sentry.Kernel) *Server {
	return &Server{
		k: k, layers: map[string]*layerfs.Layer{}, stacks: map[string]*layerfs.Stack{"": layerfs.Empty()},
		caches: map[string]*sharedCache{},
	}
}

// AddLayer makes a layer known.
func (s *Server) AddLayer(l *guest.Layer) error {
	s.mu.Lock()
	_, known := s.layers[l.ID]
	s.mu.Unlock()
	if known {
		return nil
	}
	made, err := layerfs.NewLayer(l.Tree, l.Listing, exactTimes(l.Times))
	if err != nil {
		return fmt.Errorf("read the layer %s: %w", l.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.layers[l.ID]; known {
		made.Close()
		return nil
	}
	s.layers[l.ID] = made
	return nil
}

func exactTimes(list []guest.Time) map[string]layerfs.Time {
	times := make(map[string]layerfs.Time, len(list))
	for _, t := range list {
		times[t.Path] = layerfs.Time{Sec: t.Sec, Nsec: t.Nsec}
	}
	return times
}

// stack returns the stack of layers with the given IDs.
func (s *Server) stack(ids []string) (*layerfs.Stack, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := ""
	top := s.stacks[key]
	for _, id := range ids {
		key += id + "\x00"
		next := s.stacks[key]
		if next == nil {
			l := s.layers[id]
			if l == nil {
				return nil, fmt.Errorf("the layer %q is not known", id)
			}
			next = top.With(l)
			s.stacks[key] = next
		}
		top = next
	}
	return top, nil
}

// newID returns a name for a container.
func (s *Server) newID() string { return strconv.FormatInt(s.serial.Add(1), 10) }

// clean returns a path in the form of listing.Entry.
func clean(path string) string {
	if path = strings.Trim(path, "/"); path == "" {
		return "."
	}
	return path
}
