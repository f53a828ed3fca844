package store

import (
	"cmp"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// sized is something that can be removed, and counts.
type sized struct {
	used  int64
	bytes int64
}

// fit moves the cutoff back to where the store just fits. It takes no lock: what
// is used meanwhile is newer than any cutoff.
func (p *pruner) fit(size int64) error {
	if err := p.markTags(); err != nil {
		return err
	}
	cutoff, err := p.fitting(size)
	p.cutoff = min(p.cutoff, cutoff)
	return err
}

// fitting gives the cutoff before which what is not needed must go so that at
// most size bytes of it are left; zero if there are no more.
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

// weigh lists what no tag needs, and measures it. What tags need stays whatever
// it weighs.
func (p *pruner) weigh() (all []sized, total int64, err error) {
	for _, folder := range []string{blobsDir, recordsDir, hintsDir} {
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

// collectEvery is how often Collect looks at the size.
const collectEvery = 24 * time.Hour

// Collect prunes when the store holds more than size bytes that no image needs,
// what was used longest ago first. It looks once a day at most, as that takes a
// while. What a living process has used is kept.
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
