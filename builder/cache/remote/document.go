package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/layer"
)

const (
	field   = "cairn.cache"
	version = 1

	maxRecords = 20_000 // limit for reading; writers stay below it
	maxIndexes = 20_000
	maxKeys    = 64 // of one record
	maxName    = 300
)

// document is the field "cairn.cache" of the config.
type document struct {
	Version int        `json:"version"`
	Records []record   `json:"records"`
	Indexes []indexRef `json:"indexes,omitempty"`
}

type record struct {
	Keys    []string     `json:"keys"`
	Below   string       `json:"below,omitempty"`
	On      layer.Digest `json:"on,omitempty"`
	Over    string       `json:"over,omitempty"`
	Layer   int          `json:"layer,omitempty"`
	Name    string       `json:"name,omitempty"`
	Created int64        `json:"created,omitempty"`
	Used    int64        `json:"used,omitempty"`
}

type indexRef struct {
	Of    layer.Digest `json:"of"`
	Data  []byte       `json:"data,omitempty"`
	Layer int          `json:"layer,omitempty"`
	Used  int64        `json:"used,omitempty"`
}

// decode reads the document in a config and validates it. layers is the number of
// layers of the image.
func decode(config []byte, layers int) (*document, error) {
	var c struct {
		Cache *document `json:"cairn.cache"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	if c.Cache == nil {
		return nil, ErrNotFound
	}
	d := c.Cache
	if d.Version != version {
		return nil, fmt.Errorf("cache format version %d is not supported (want %d)", d.Version, version)
	}
	if len(d.Records) > maxRecords || len(d.Indexes) > maxIndexes {
		return nil, fmt.Errorf("too large: %d records (at most %d) and %d listings (at most %d)", len(d.Records), maxRecords, len(d.Indexes), maxIndexes)
	}
	for i := range d.Records {
		if err := d.Records[i].check(layers); err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
	}
	for i, x := range d.Indexes {
		if err := x.check(layers); err != nil {
			return nil, fmt.Errorf("listing %d: %w", i, err)
		}
	}
	return d, nil
}

func (r *record) check(layers int) error {
	if len(r.Keys) == 0 || len(r.Keys) > maxKeys {
		return fmt.Errorf("invalid number of keys: %d", len(r.Keys))
	}
	for _, key := range r.Keys {
		if !isKey(key) {
			return fmt.Errorf("invalid key %.100q", key)
		}
	}
	if r.Below != "" && !isKey(r.Below) || r.Over != "" && !isKey(r.Over) {
		return errors.New("invalid key of the result below")
	}
	if r.On != "" && r.On.Validate() != nil {
		return errors.New("invalid chain ID of the layers below")
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
		return fmt.Errorf("of layer %s: must have either data or one of %d layers", x.Of, layers)
	}
	return nil
}

func isKey(s string) bool { return layer.Digest("sha256:"+s).Validate() == nil }

// printable returns a name from a cache as a short line that is safe to print.
func printable(s string) string { return termtext.Truncate(termtext.Line(s), maxName, "") }

// embed returns a config with an additional field.
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
		return nil, errors.New("the image's config is not a JSON object")
	}
	out := bytes.Clone(body)
	if !bytes.HasSuffix(bytes.TrimSpace(body), []byte("{")) {
		out = append(out, ',')
	}
	out = append(out, `"`+field+`":`...)
	out = append(out, bytes.TrimSpace(b.Bytes())...)
	return append(out, '}'), nil
}

// configOf returns the config of an image that is only a cache.
func configOf(field string, v any, layers []layer.Descriptor) ([]byte, error) {
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
