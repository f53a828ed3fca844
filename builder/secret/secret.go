// Package secret gives the values that a build may use and must not keep:
// passwords and tokens, known by an id.
//
// A value comes from a file or a variable of the environment, and is read when
// a step first asks for it. It goes to that step alone: it is in no key, no
// layer and no message.
package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/tonistiigi/go-csvvalue"
)

// MaxSize bounds a value, in bytes.
const MaxSize = 500 << 10

// Source says where the value of an id is. With neither File nor Env it is the
// variable called ID if there is one, and otherwise the file of that name.
type Source struct {
	ID   string
	File string // relative to the working directory
	Env  string // comes before File
}

// Parse reads one --secret: id=ID with src=FILE or env=NAME. With type=env,
// src= names a variable.
func Parse(text string) (Source, error) {
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return Source{}, err
	}
	var s Source
	kind := ""
	for _, field := range fields {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return Source{}, fmt.Errorf("%q is no attribute: want id=ID[,src=FILE|,env=NAME]", field)
		}
		switch strings.ToLower(name) {
		case "type":
			if kind = value; kind != "file" && kind != "env" {
				return Source{}, fmt.Errorf("type %q is not supported: there are file and env", kind)
			}
		case "id":
			s.ID = value
		case "source", "src":
			s.File = value
		case "env":
			s.Env = value
		default:
			return Source{}, fmt.Errorf("attribute %q is not supported: there are id, src, env and type", name)
		}
	}
	if kind == "env" && s.Env == "" {
		s.Env, s.File = s.File, ""
	}
	if s.ID == "" {
		return Source{}, errors.New("id is missing: want id=ID[,src=FILE|,env=NAME]")
	}
	return s, nil
}

// Set is the secrets of one build. A nil set has none. It may be used by
// several goroutines.
type Set struct {
	lookup  func(string) (string, bool)
	sources map[string]Source
	mu      sync.Mutex
	values  map[string][]byte
}

// NewSet checks that the files are there; the last source of an id counts.
// lookup reads the environment, as [os.LookupEnv] does.
func NewSet(sources []Source, lookup func(string) (string, bool)) (*Set, error) {
	s := &Set{lookup: lookup, sources: map[string]Source{}, values: map[string][]byte{}}
	for _, src := range sources {
		if src.ID == "" {
			return nil, errors.New("a secret has no id")
		}
		if src.Env == "" && src.File == "" {
			if _, ok := lookup(src.ID); ok {
				src.Env = src.ID
			} else {
				src.File = src.ID
			}
		}
		if src.Env == "" {
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
		return fmt.Errorf("secret %s: there is neither a variable %s nor a file of that name: say where it is with src= or env=", s.ID, s.ID)
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

// Get gives the value of a secret, and false if the build has none of that id.
// A variable that is not set is the empty value. Nobody may change the bytes.
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

// readFile reads a little more than a secret may have.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}
