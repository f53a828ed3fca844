// Package secret provides the secrets of a build, such as passwords and tokens,
// by id.
//
// A value comes from a file or an environment variable and is read when a step
// first uses it. Only that step sees it: it is not part of any key, layer or
// message.
package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// MaxSize is the largest size of a value in bytes.
const MaxSize = 500 << 10

// Source is the source of the secret ID. Without File and Env it is the variable
// called ID if that is set, otherwise the file of that name.
type Source struct {
	ID   string
	File string // relative to the working directory
	Env  string // takes precedence over File
	Text string // the value itself; takes precedence over both
}

// Set holds the secrets of one build. A nil Set is empty. It is safe for concurrent
// use.
type Set struct {
	lookup  func(string) (string, bool)
	sources map[string]Source
	mu      sync.Mutex
	values  map[string][]byte
}

// NewSet returns the secrets of the sources; the last source of an id counts. It
// returns an error if a file is missing. lookup reads the environment, like
// [os.LookupEnv].
func NewSet(sources []Source, lookup func(string) (string, bool)) (*Set, error) {
	s := &Set{lookup: lookup, sources: map[string]Source{}, values: map[string][]byte{}}
	for _, src := range sources {
		if src.ID == "" {
			return nil, errors.New("a secret has no id")
		}
		if src.Text == "" && src.Env == "" && src.File == "" {
			if _, ok := lookup(src.ID); ok {
				src.Env = src.ID
			} else {
				src.File = src.ID
			}
		}
		if src.Text == "" && src.Env == "" {
			if err := checkFile(src); err != nil {
				return nil, err
			}
		}
		s.sources[src.ID] = src
	}
	return s, nil
}

func checkFile(s Source) error {
	fi, err := os.Stat(s.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.File == s.ID:
		return fmt.Errorf("secret %[1]s: no variable and no file is called %[1]s: set src=FILE or env=VARIABLE", s.ID)
	case err != nil:
		return fmt.Errorf("secret %s: %w", s.ID, err)
	case fi.IsDir():
		return fmt.Errorf("secret %s: %s is a directory", s.ID, s.File)
	case fi.Size() > MaxSize:
		return tooBig(s.ID)
	}
	return nil
}

func tooBig(id string) error {
	return fmt.Errorf("secret %s is larger than %d bytes", id, MaxSize)
}

// Unset returns the sources whose variable is not set. Their secrets are empty.
func (s *Set) Unset() (list []Source) {
	for _, id := range slices.Sorted(maps.Keys(s.sources)) {
		src := s.sources[id]
		if _, ok := s.lookup(src.Env); src.Text == "" && src.Env != "" && !ok {
			list = append(list, src)
		}
	}
	return list
}

// IDs returns the ids of the secrets, sorted.
func (s *Set) IDs() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.sources))
}

// Origin describes the source of a secret. Secrets with equal origins are equal.
func (s *Set) Origin(id string) string {
	if s == nil || s.sources[id].ID == "" {
		return "none"
	}
	if s.sources[id].Text != "" {
		return "text"
	}
	if src := s.sources[id]; src.Env != "" {
		return "env " + src.Env
	}
	return "file " + filepath.Clean(s.sources[id].File)
}

// Get returns the value of a secret, and reports whether the build has one with
// that id. The value of an unset variable is empty. The caller must not change the
// bytes.
func (s *Set) Get(id string) (value []byte, ok bool, err error) {
	if s == nil {
		return nil, false, nil
	}
	src, ok := s.sources[id]
	if !ok {
		return nil, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[id]; ok {
		return v, true, nil
	}
	if src.Text != "" {
		return []byte(src.Text), true, nil
	}
	if src.Env != "" {
		v, _ := s.lookup(src.Env)
		value = []byte(v)
	} else if value, err = readFile(src.File); err != nil {
		return nil, false, fmt.Errorf("secret %s: %w", id, err)
	}
	if len(value) > MaxSize {
		return nil, false, tooBig(id)
	}
	s.values[id] = value
	return value, true, nil
}

// readFile reads a file up to just over MaxSize.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}
