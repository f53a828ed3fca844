// Package taghistory keeps the earlier images of a tag in the registry.
//
// They are the manifests of an image index in the same repository, newest first, under a
// tag that is derived from the first one. A registry's garbage collection keeps the images
// of an index, so they stay for as long as the list has them. The list has no
// entry for the present image; annotations of the index announce the image that a push is
// about to set, and confirm it afterwards, so that the list is true at any moment.
package taghistory

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// ArtifactType is the artifact type of an index with the history of a tag.
const ArtifactType = "application/vnd.cairn.tag-history.v1"

const (
	version    = "1"
	prefix     = "dev.cairn.history."
	maxTag     = 128
	maxText    = 256     // of By and Note, in bytes
	maxSize    = 4 << 20 // of an index
	maxEntries = 1000    // that are read
)

// Entry is an image that a tag referred to.
type Entry struct {
	MediaType string       `json:"mediaType"`
	Digest    layer.Digest `json:"digest"`
	Bytes     int64        `json:"size"` // of the manifest or index

	Time      time.Time `json:"time,omitzero"`       // when the tag was set to it; zero if unknown
	By        string    `json:"by,omitempty"`        // user or job that set the tag
	Note      string    `json:"note,omitempty"`      // such as "rolled back"
	ImageSize int64     `json:"imageSize,omitempty"` // bytes of the compressed layers; 0 if unknown

	// Gone is set if the registry does not have the image any more.
	Gone bool `json:"gone,omitempty"`
}

// same reports whether two entries are of the same push.
func (e Entry) same(other Entry) bool { return e.Digest == other.Digest && e.Time.Equal(other.Time) }

// list is the content of an index.
type list struct {
	tag       string
	announced *Entry  // the image of the last push
	confirmed bool    // the tag did refer to it
	entries   []Entry // newest first
}

// TagFor returns the tag of the index with the history of a tag. The dot keeps tools that
// choose the newest version from taking it for one.
func TagFor(tag string) string {
	if name := tag + ".history"; len(name) <= maxTag {
		return name
	}
	sum := sha256.Sum256([]byte(tag))
	return "history-" + hex.EncodeToString(sum[:16])
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      layer.Digest      `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Manifests     []descriptor      `json:"manifests"`
	Annotations   map[string]string `json:"annotations"`
}

// parse reads the history of a tag. Entries of other tags and malformed ones are left
// out, since every user with the right to push may have written them.
func parse(raw []byte, tag string) (list, error) {
	var x index
	if len(raw) > maxSize {
		return list{}, fmt.Errorf("it has %d bytes, more than the %d of a history", len(raw), maxSize)
	}
	if err := layer.Unmarshal(raw, &x); err != nil {
		return list{}, err
	}
	switch {
	case x.ArtifactType != ArtifactType:
		return list{}, errors.New("it is not a history of a tag, but something else")
	case x.Annotations[prefix+"version"] != version:
		return list{}, fmt.Errorf("it is a history in version %.20q of the format, which this cairn does not know: use a newer one", x.Annotations[prefix+"version"])
	case x.Annotations[prefix+"tag"] != tag:
		return list{}, fmt.Errorf("it is the history of the tag %.128q", x.Annotations[prefix+"tag"])
	}
	l := list{tag: tag}
	for _, d := range x.Manifests {
		if e, ok := entryOf(d); ok && d.Annotations[prefix+"tag"] == tag && len(l.entries) < maxEntries {
			l.entries = append(l.entries, e)
		}
	}
	var gone []Entry
	if json.Unmarshal([]byte(x.Annotations[prefix+"gone"]), &gone) == nil {
		for _, e := range gone {
			if e.Gone = true; e.valid() && len(l.entries) < maxEntries {
				l.entries = insert(l.entries, e.clean(), nil)
			}
		}
	}
	announced := descriptor{MediaType: x.Annotations[prefix+"media-type"], Digest: layer.Digest(x.Annotations[prefix+"digest"]), Annotations: x.Annotations}
	announced.Size, _ = strconv.ParseInt(x.Annotations[prefix+"bytes"], 10, 64)
	if e, ok := entryOf(announced); ok {
		l.announced, l.confirmed = &e, x.Annotations[prefix+"set"] == "true"
	}
	return l, nil
}

func entryOf(d descriptor) (Entry, bool) {
	e := Entry{MediaType: d.MediaType, Digest: d.Digest, Bytes: d.Size, By: d.Annotations[prefix+"by"], Note: d.Annotations[prefix+"note"]}
	e.Time, _ = time.Parse(time.RFC3339Nano, d.Annotations[prefix+"time"])
	e.ImageSize, _ = strconv.ParseInt(d.Annotations[prefix+"size"], 10, 64)
	return e.clean(), e.valid()
}

// valid reports whether an entry may be that of an image.
func (e Entry) valid() bool {
	switch e.MediaType {
	case layer.MediaTypeManifest, layer.MediaTypeIndex, layer.DockerManifest, layer.DockerManifestList:
		return e.Digest.Validate() == nil && e.Bytes >= 0
	}
	return false
}

// clean returns e with texts of bounded length.
func (e Entry) clean() Entry {
	e.By, e.Note = bounded(e.By), bounded(e.Note)
	e.ImageSize = max(e.ImageSize, 0)
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	return e
}

func bounded(s string) string {
	if len(s) > maxText {
		return s[:maxText]
	}
	return s
}

// annotations returns the annotations of an entry.
func (e Entry) annotations(tag string) map[string]string {
	a := map[string]string{prefix + "tag": tag}
	if !e.Time.IsZero() {
		a[prefix+"time"] = e.Time.Format(time.RFC3339Nano)
	}
	if e.By != "" {
		a[prefix+"by"] = e.By
	}
	if e.Note != "" {
		a[prefix+"note"] = e.Note
	}
	if e.ImageSize > 0 {
		a[prefix+"size"] = strconv.FormatInt(e.ImageSize, 10)
	}
	return a
}

// index returns the index of a list.
func (l list) index() (layer.Image, error) {
	x := index{SchemaVersion: 2, MediaType: layer.MediaTypeIndex, ArtifactType: ArtifactType, Manifests: []descriptor{}, Annotations: map[string]string{}}
	if l.announced != nil {
		x.Annotations = l.announced.annotations(l.tag)
		x.Annotations[prefix+"digest"] = string(l.announced.Digest)
		x.Annotations[prefix+"media-type"] = l.announced.MediaType
		x.Annotations[prefix+"bytes"] = strconv.FormatInt(l.announced.Bytes, 10)
		x.Annotations[prefix+"set"] = strconv.FormatBool(l.confirmed)
	}
	x.Annotations[prefix+"version"], x.Annotations[prefix+"tag"] = version, l.tag
	var gone []Entry
	for _, e := range l.entries {
		if e.Gone {
			gone = append(gone, e)
			continue
		}
		x.Manifests = append(x.Manifests, descriptor{e.MediaType, e.Digest, e.Bytes, e.annotations(l.tag)})
	}
	if gone != nil {
		text, err := json.Marshal(gone)
		if err != nil {
			return layer.Image{}, err
		}
		x.Annotations[prefix+"gone"] = string(text)
	}
	raw, err := json.Marshal(x)
	if err != nil {
		return layer.Image{}, err
	}
	return layer.Image{MediaType: x.MediaType, Digest: layer.FromBytes(raw), Manifest: raw}, nil
}

// insert adds an entry to others, the newest first. An entry without a time comes behind
// the one that it follows in its own list, or first.
func insert(entries []Entry, e Entry, follows *Entry) []Entry {
	if slices.ContainsFunc(entries, e.same) {
		return entries
	}
	at := 0
	switch {
	case !e.Time.IsZero():
		at = slices.IndexFunc(entries, func(other Entry) bool { return !other.Time.IsZero() && !other.Time.After(e.Time) })
		if at < 0 {
			at = len(entries)
			for at > 0 && entries[at-1].Time.IsZero() {
				at-- // images of an unknown time are older than the first that was recorded
			}
		}
	case follows != nil:
		at = slices.IndexFunc(entries, follows.same) + 1
	}
	return slices.Insert(slices.Clone(entries), at, e)
}

// merge returns the entries of both lists, at most keep.
func merge(entries, others []Entry, keep int) []Entry {
	var follows *Entry
	for i := range others {
		entries = insert(entries, others[i], follows)
		follows = &others[i]
	}
	return entries[:min(len(entries), keep)]
}
