package store

import (
	"cmp"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// sized is the last use and the size of an entry that could be removed.
type sized struct {
	used  int64
	bytes int64
}

// fit moves the cutoff back to the point at which the store just fits. It needs no
// lock: entries that are used meanwhile are newer than any cutoff.
func (p *pruner) fit(size int64) error {
	if err := p.markTags(); err != nil {
		return err
	}
	cutoff, err := p.fitting(size)
	p.cutoff = min(p.cutoff, cutoff)
	return err
}

// fitting returns the cutoff that leaves at most size bytes of entries that no tag
// needs. It is zero if there are no more than that.
func (p *pruner) fitting(size int64) (int64, error) {
	all, total, err := p.weigh()
	if err != nil {
		return 0, err
	}
	slices.SortFunc(all, func(a, b sized) int { return cmp.Compare(a.used, b.used) })
	var cutoff int64
	for _, e := range all {
		if total <= size {
			break
		}
		total -= e.bytes
		cutoff = e.used + 1
	}
	return cutoff, nil
}

// weigh lists the entries that no tag needs and returns their total size. Entries
// that a tag needs stay at any size.
func (p *pruner) weigh() (all []sized, total int64, err error) {
	for _, folder := range []string{blobsDir, recordsDir, hintsDir, buildsDir} {
		names, err := readNames(p.s.path(folder))
		if err != nil {
			return nil, 0, err
		}
		for _, name := range names {
			var st unix.Stat_t
			if p.blobs[name] || p.origins[name] || unix.Lstat(p.s.path(folder, name), &st) != nil {
				continue
			}
			total += st.Blocks * 512
			all = append(all, sized{st.Mtim.Nano(), st.Blocks * 512})
		}
	}
	folder := func(path string) error {
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return nil
		}
		a, err := measure(path)
		total += a.Bytes
		all = append(all, sized{st.Mtim.Nano(), a.Bytes})
		return err
	}
	containers, err := readNames(p.s.boot)
	if err != nil && !os.IsNotExist(err) {
		return nil, 0, err
	}
	for _, name := range containers {
		if name == keysDir {
			continue
		}
		if err := folder(p.s.boot + "/" + name); err != nil {
			return nil, 0, err
		}
	}
	return all, total, p.s.eachCache(folder)
}

// collectEvery is the interval at which Collect measures the store.
const collectEvery = 24 * time.Hour

// Collect prunes the store if it holds more than size bytes that no image needs,
// least recently used first. Since measuring takes a while, it does that at most
// once a day. Entries in use by a running process stay.
func (s *Store) Collect(size int64, now time.Time) (PruneReport, error) {
	mark := s.path(gcFile)
	info, err := os.Stat(mark)
	if err != nil {
		return PruneReport{}, s.explain("collect", err)
	}
	if age := now.Sub(info.ModTime()); age < collectEvery && age >= 0 {
		return PruneReport{}, nil
	}
	if err := os.Chtimes(mark, now, now); err != nil {
		return PruneReport{}, s.explain("collect", err)
	}
	return s.Prune(PruneOptions{Keep: size, Before: now})
}
