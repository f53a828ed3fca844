package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/cairn-build/cairn/layer"
)

const (
	field   = "cairn.cache"
	version = 1

	maxRecords = 20_000 // that are read; the most that are written is less
	maxIndexes = 20_000
	maxKeys    = 64 // of one record
	maxName    = 300
)

// document is the field of the config.
type document struct {
	Version int        `json:"version"`
	Records []record   `json:"records"`
	Indexes []indexRef `json:"indexes,omitempty"`
}

type record struct {
	Keys    []string `json:"keys"`
	Below   string   `json:"below,omitempty"`
	Over    string   `json:"over,omitempty"`
	Layer   int      `json:"layer,omitempty"`
	Name    string   `json:"name,omitempty"`
	Created int64    `json:"created,omitempty"`
	Used    int64    `json:"used,omitempty"`
}

type indexRef struct {
	Of    layer.Digest `json:"of"`
	Data  []byte       `json:"data,omitempty"`
	Layer int          `json:"layer,omitempty"`
	Used  int64        `json:"used,omitempty"`
}

// decode reads a config's field, and checks all that is used later. layers is
// the number of layers that the image has.
func decode(config []byte, layers int) (*document, error) {
	var c struct {
		Cache *document `json:"cairn.cache"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	if c.Cache == nil {
		return nil, ErrNone
	}
	d := c.Cache
	if d.Version != version {
		return nil, fmt.Errorf("it has version %d, this cairn reads %d", d.Version, version)
	}
	if len(d.Records) > maxRecords || len(d.Indexes) > maxIndexes {
		return nil, fmt.Errorf("it has %d records and %d indexes, more than are read", len(d.Records), len(d.Indexes))
	}
	for i := range d.Records {
		if err := d.Records[i].check(layers); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	for i, x := range d.Indexes {
		if err := x.check(layers); err != nil {
			return nil, fmt.Errorf("index %d: %w", i, err)
		}
	}
	return d, nil
}

func (r *record) check(layers int) error {
	if len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return fmt.Errorf("%d keys", len(r.Keys))
	}
	for _, key := range r.Keys {
		if !isKey(key) {
			return fmt.Errorf("key %.100q", key)
		}
	}
	if r.Below != "" && !isKey(r.Below) || r.Over != "" && !isKey(r.Over) {
		return errors.New("what it lies on has no key")
	}
	if r.Layer < 0 || r.Layer > layers {
		return fmt.Errorf("layer %d of %d", r.Layer, layers)
	}
	r.Name = printable(r.Name)
	return nil
}

func (x indexRef) check(layers int) error {
	if err := x.Of.Validate(); err != nil {
		return err
	}
	if x.Layer < 0 || x.Layer > layers || (x.Layer == 0) == (len(x.Data) == 0) {
		return fmt.Errorf("of layer %s: want it in place or in one of %d layers", x.Of, layers)
	}
	return nil
}

func isKey(s string) bool { return layer.Digest("sha256:"+s).Validate() == nil }

// printable makes a foreign name fit for a terminal, and short.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return s
}

// embed gives a config with one more field.
func embed(config []byte, field string, v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	config = bytes.TrimSpace(config)
	body, ok := bytes.CutSuffix(config, []byte("}"))
	if !ok {
		return nil, errors.New("the image's config is no JSON object")
	}
	out := bytes.Clone(body)
	if !bytes.HasSuffix(bytes.TrimSpace(body), []byte("{")) {
		out = append(out, ',')
	}
	out = append(out, `"`+field+`":`...)
	out = append(out, bytes.TrimSpace(b.Bytes())...)
	return append(out, '}'), nil
}

// configOf makes the config of an image that is nothing but a cache.
func configOf(field string, v any, layers []layer.Blob) ([]byte, error) {
	type rootFS struct {
		Type    string         `json:"type"`
		DiffIDs []layer.Digest `json:"diff_ids"`
	}
	c := struct {
		Architecture string   `json:"architecture"`
		OS           string   `json:"os"`
		Config       struct{} `json:"config"`
		RootFS       rootFS   `json:"rootfs"`
	}{Architecture: "unknown", OS: "linux", RootFS: rootFS{Type: "layers", DiffIDs: []layer.Digest{}}}
	for _, b := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, b.DiffID)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return embed(raw, field, v)
}
