package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/layer"
)

const (
	// maxFormer is the number of earlier images of a reference that are recorded.
	maxFormer = 50

	// keepRemoved is the time for which those of a removed reference are recorded.
	keepRemoved = 30 * 24 * time.Hour
)

// Former is an image that a reference had.
type Former struct {
	Digest  layer.Digest // of the index or else the image
	Size    int64        // bytes of the compressed layers; 0 if unknown
	Set     time.Time    // when the reference was set to it
	Until   time.Time    // when it got another image or was removed
	Command string       // that set it
	Gone    bool         // its manifest, config or layers are no longer to be had
}

// former is a Former on disk, in a list with the newest last.
type former struct {
	document
	Until   time.Time `json:"until"`
	Command string    `json:"command,omitempty"`
}

// tagLog is the record of a reference's earlier images.
type tagLog struct {
	Ref     string   `json:"ref"`
	Command string   `json:"command,omitempty"` // that set the present image
	Former  []former `json:"former"`
}

func (s *ImageStore) logPath(ref string) string { return s.path(historyDir, keyName(ref)) }

// setTag writes the document of a reference, and records the one that it replaces.
func (s *ImageStore) setTag(d document) error {
	path := s.path(tagsDir, keyName(d.Ref))
	unlock, err := s.lockLogs()
	if err != nil {
		return err
	}
	defer unlock()
	var old document
	replaces := s.readJSON(path, &old)
	if replaces && old.same(d) {
		return nil
	}
	if err := s.record(d.Ref, old, replaces); err != nil {
		return err
	}
	return s.writeJSON(path, d, before)
}

// record adds the image that a reference had to its record, if it had one.
func (s *ImageStore) record(ref string, old document, had bool) error {
	if strings.Contains(ref, "@") {
		return nil // a digest has always the same image
	}
	log := tagLog{Ref: ref}
	known := s.readJSON(s.logPath(ref), &log)
	if had {
		log.Former = append(log.Former, former{old, time.Now().UTC().Truncate(time.Second), log.Command})
		log.Former = log.Former[max(0, len(log.Former)-maxFormer):]
	} else if !known && s.Command == "" {
		return nil
	}
	log.Command = s.Command
	return s.writeJSON(s.logPath(ref), log, behind)
}

// lockLogs makes the directory of records and locks it.
func (s *ImageStore) lockLogs() (unlock func(), err error) {
	unlock, err = s.lockFolder(historyDir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(s.path(historyDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return s.lockFolder(historyDir)
	}
	return unlock, err
}

// History returns the earlier images of a reference, the newest first. It is empty for a
// reference that never had another image.
func (s *ImageStore) History(ref string) ([]Former, error) {
	var log tagLog
	if !s.readJSON(s.logPath(ref), &log) {
		return nil, nil
	}
	var all []Former
	for _, f := range slices.Backward(log.Former) {
		one := Former{Digest: f.digest(), Set: f.Created, Until: f.Until, Command: f.Command}
		one.Size, one.Gone = s.sizeOf(f.document)
		all = append(all, one)
	}
	return all, nil
}

// SetBy returns the command that set the present image of a reference, or "" if it is not
// known.
func (s *ImageStore) SetBy(ref string) string {
	var log tagLog
	s.readJSON(s.logPath(ref), &log)
	return log.Command
}

// digest returns the digest of the index or else of the image.
func (d document) digest() layer.Digest {
	if d.Index != nil {
		return d.Index.Digest
	}
	return d.Digest
}

// sizeOf returns the size of the images of a document, and reports whether one of them
// cannot be restored.
func (s *ImageStore) sizeOf(d document) (size int64, gone bool) {
	if d.Index != nil {
		if _, ok := s.blobs.StatBlob(d.Index.Digest); !ok {
			return 0, true
		}
	}
	hints := &RecordStore{s.disk}
	var images []layer.Image
	for _, part := range d.parts() {
		img, err := s.image(part)
		if err != nil {
			return 0, true
		}
		images = append(images, img)
		for _, b := range img.Layers {
			if _, ok := s.blobs.StatBlob(b.Digest); !ok && hints.Origin(b.Digest) == "" {
				gone = true
			}
		}
	}
	return layer.SizeOf(images...), gone
}

// Restore sets a reference to an image that it had before. The error is fs.ErrNotExist
// if there was no such image, or if it is gone.
func (s *ImageStore) Restore(ref string, digest layer.Digest) error {
	var log tagLog
	s.readJSON(s.logPath(ref), &log)
	for _, f := range slices.Backward(log.Former) {
		if f.digest() != digest {
			continue
		}
		if _, gone := s.sizeOf(f.document); gone {
			return notExist("image " + string(digest))
		}
		d := f.document
		d.Created = time.Now().UTC().Truncate(time.Second)
		if err := s.setTag(d); err != nil {
			return s.explain("restore "+ref, err)
		}
		return nil
	}
	return notExist("an image of " + ref + " with the digest " + string(digest))
}

// pruneLogs removes the records of references that were removed long ago.
func (p *pruner) pruneLogs() error {
	return p.eachLog(func(path string, log tagLog) error {
		if _, err := os.Lstat(p.s.path(tagsDir, keyName(log.Ref))); err == nil || len(log.Former) == 0 {
			return nil
		}
		if time.Since(log.Former[len(log.Former)-1].Until) < keepRemoved {
			return nil
		}
		return os.Remove(path)
	})
}

// markLogs marks the images that references had since a time as needed.
func (p *pruner) markLogs(since time.Time) error {
	return p.eachLog(func(_ string, log tagLog) error {
		for _, f := range log.Former {
			if !f.Until.Before(since) {
				p.markTagged(f.document)
			}
		}
		return nil
	})
}

func (p *pruner) eachLog(do func(path string, log tagLog) error) error {
	names, err := readNames(p.s.path(historyDir))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, name := range names {
		path := p.s.path(historyDir, name)
		var log tagLog
		if b, err := sealed(path); err != nil || json.Unmarshal(b, &log) != nil {
			continue
		}
		if err := do(path, log); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// log verifies the record of a reference's earlier images. These need not be in the store.
func (c *checker) log(path, name string) error {
	b, err := sealed(path)
	if err != nil {
		return err
	}
	var log tagLog
	if err := json.Unmarshal(b, &log); err != nil {
		return err
	}
	if keyName(log.Ref) != name {
		return fmt.Errorf("belongs to %q", log.Ref)
	}
	for _, f := range log.Former {
		if err := f.validate(); err != nil {
			return err
		}
	}
	return nil
}
