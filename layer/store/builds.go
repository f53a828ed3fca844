package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// BuildStore is the part of a Store that holds records of the last builds.
type BuildStore struct{ *disk }

// StoredBuild names the record of a build.
type StoredBuild struct {
	ID   string
	Time time.Time // of the start of the build
	Size int64
	name string
}

// buildName matches the names of the files: the time of the build in milliseconds and its
// ID.
var buildName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]{15})-([a-z2-7]{8})$`) })

// PutBuild stores the record of a build that began at a time. Its ID has eight letters and
// digits.
func (s *BuildStore) PutBuild(id string, at time.Time, b []byte) error {
	name := fmt.Sprintf("%015d-%s", max(at.UnixMilli(), 0), id)
	if !buildName().MatchString(name) {
		return fmt.Errorf("store a build: %q is no ID", id)
	}
	if err := s.writeSealed(s.path(buildsDir, name), b, careless); err != nil {
		return s.explain("store a build", err)
	}
	return nil
}

// Builds returns the stored builds, the last one first.
func (s *BuildStore) Builds() ([]StoredBuild, error) {
	names, err := readNames(s.path(buildsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, s.explain("list the builds", err)
	}
	var all []StoredBuild
	for _, name := range names {
		m := buildName().FindStringSubmatch(name)
		var st unix.Stat_t
		if m == nil || unix.Lstat(s.path(buildsDir, name), &st) != nil {
			continue
		}
		ms, _ := strconv.ParseInt(m[1], 10, 64) // the name has digits only
		all = append(all, StoredBuild{m[2], time.UnixMilli(ms), st.Size, name})
	}
	slices.SortFunc(all, func(a, b StoredBuild) int { return cmp.Compare(b.name, a.name) })
	return all, nil
}

// Build returns the record of a build. The error is fs.ErrNotExist if it is missing or
// damaged.
func (s *BuildStore) Build(b StoredBuild) ([]byte, error) {
	path := s.path(buildsDir, b.name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, notExist("the build")
	}
	body, ok := unseal(path, text)
	if !ok {
		return nil, notExist("the build")
	}
	return body, nil
}

// DropBuild removes the record of a build, if there is one.
func (s *BuildStore) DropBuild(b StoredBuild) error {
	err := os.Remove(s.path(buildsDir, b.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.explain("remove a build", err)
	}
	return nil
}

// TrimBuilds removes the oldest builds until there are at most count, of together at most
// size bytes. Several processes may do so at once.
func (s *BuildStore) TrimBuilds(count int, size int64) error {
	all, err := s.Builds()
	if err != nil {
		return err
	}
	var errs []error
	for i, b := range all {
		if size -= b.Size; i >= count || size < 0 {
			errs = append(errs, s.DropBuild(b))
		}
	}
	return errors.Join(errs...)
}
