package bake

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"
)

// ParseAttest parses an attestation such as type=sbom,generator=REF.
func ParseAttest(s string) (*Attest, error) {
	a := &Attest{Attrs: map[string]string{}}
	err := eachField(s, func(key, value string) (err error) {
		switch strings.TrimSpace(strings.ToLower(key)) {
		case "type":
			a.Type = value
		case "disabled":
			a.Disabled, err = strconv.ParseBool(value)
		default:
			a.Attrs[key] = value
		}
		return err
	})
	if err == nil && a.Type == "" {
		err = errors.New("attestation type not specified")
	}
	return a, err
}

// ParseCaches parses a cache such as type=local,src=DIR, or image references
// separated by commas.
func ParseCaches(s string) ([]*Cache, error) {
	if s == "" {
		return nil, nil
	}
	if !strings.Contains(s, "=") {
		refs, err := csvvalue.Fields(s, nil)
		caches := make([]*Cache, 0, len(refs))
		for _, ref := range refs {
			caches = append(caches, &Cache{Type: "registry", Attrs: map[string]string{"ref": ref}})
		}
		return caches, err
	}
	c := &Cache{Attrs: map[string]string{}}
	err := eachField(s, func(key, value string) error {
		if key = strings.ToLower(key); key == "type" {
			c.Type = value
		} else {
			c.Attrs[key] = value
		}
		return nil
	})
	if err == nil && c.Type == "" {
		err = fmt.Errorf("type required for %q", s)
	}
	return []*Cache{c}, err
}

// ParseOutput parses an output such as type=oci,dest=FILE, a directory, or - for a tar
// archive on standard output.
func ParseOutput(s string) (*Output, error) {
	o := &Output{Attrs: map[string]string{}}
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return nil, err
	}
	if len(fields) == 1 && fields[0] == s && !strings.HasPrefix(s, "type=") {
		o.Type, o.Destination = "local", s
		if s == "-" {
			o.Type = "tar"
		}
		return o, nil
	}
	err = eachField(s, func(key, value string) error {
		switch key = strings.TrimSpace(strings.ToLower(key)); key {
		case "type":
			o.Type = value
		case "dest":
			o.Destination = value
		default:
			o.Attrs[key] = value
		}
		return nil
	})
	if err == nil && o.Type == "" {
		err = errors.New("type is required for output")
	}
	return o, err
}

// ParseSecret parses a secret such as id=ID,src=FILE or id=ID,env=NAME.
func ParseSecret(s string) (*Secret, error) {
	secret, kind := &Secret{}, ""
	err := eachField(s, func(key, value string) error {
		switch key := strings.ToLower(key); key {
		case "type":
			if value != "file" && value != "env" {
				return fmt.Errorf("unsupported secret type %q", value)
			}
			kind = value
		case "id":
			secret.ID = value
		case "source", "src":
			secret.File = value
		case "env":
			secret.Env = value
		default:
			return fmt.Errorf("unexpected key %q", key)
		}
		return nil
	})
	if kind == "env" && secret.Env == "" {
		secret.Env, secret.File = secret.File, ""
	}
	return secret, err
}

// ParseSSH parses an agent such as default or ID=PATH,PATH.
func ParseSSH(s string) *SSH {
	id, paths, ok := strings.Cut(s, "=")
	if !ok {
		return &SSH{ID: id}
	}
	return &SSH{ID: id, Paths: strings.Split(paths, ",")}
}

// eachField calls f for the fields KEY=VALUE of a record of comma-separated values.
func eachField(s string, f func(key, value string) error) error {
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return err
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return fmt.Errorf("invalid value %q: expected KEY=VALUE", field)
		}
		if err := f(key, value); err != nil {
			return fmt.Errorf("invalid value %q: %w", field, err)
		}
	}
	return nil
}

// MarshalJSON returns an object with the type, disabled and the attributes.
func (a *Attest) MarshalJSON() ([]byte, error) {
	m := map[string]any{}
	for k, v := range a.Attrs {
		m[k] = v
	}
	m["type"] = a.Type
	if a.Disabled {
		m["disabled"] = true
	}
	return json.Marshal(m)
}

// MarshalJSON returns an object with the type and the attributes.
func (c *Cache) MarshalJSON() ([]byte, error) { return json.Marshal(withKeys(c.Attrs, "type", c.Type)) }

// MarshalJSON returns an object with the type, the destination and the attributes.
func (o *Output) MarshalJSON() ([]byte, error) {
	m := withKeys(o.Attrs, "type", o.Type)
	if o.Destination != "" {
		m["dest"] = o.Destination
	}
	return json.Marshal(m)
}

// String returns the attestation in the form that ParseAttest reads.
func (a *Attest) String() string {
	fields := []string{"type=" + a.Type}
	if a.Disabled {
		fields = append(fields, "disabled=true")
	}
	return record(fields, a.Attrs)
}

// String returns the cache in the form that ParseCaches reads.
func (c *Cache) String() string { return record([]string{"type=" + c.Type}, c.Attrs) }

// String returns the output in the form that ParseOutput reads.
func (o *Output) String() string {
	fields := []string{"type=" + o.Type}
	if o.Destination != "" {
		fields = append(fields, "dest="+o.Destination)
	}
	return record(fields, o.Attrs)
}

// String returns the secret in the form that ParseSecret reads.
func (s *Secret) String() string {
	fields := []string{"id=" + s.ID}
	if s.File != "" {
		fields = append(fields, "src="+s.File)
	}
	if s.Env != "" {
		fields = append(fields, "env="+s.Env)
	}
	return record(fields, nil)
}

// String returns the agent in the form that ParseSSH reads.
func (s *SSH) String() string {
	if len(s.Paths) == 0 {
		return s.ID
	}
	return s.ID + "=" + strings.Join(s.Paths, ",")
}

func withKeys(attrs map[string]string, key, value string) map[string]string {
	m := maps.Clone(attrs)
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// record returns comma-separated values, the attributes sorted by their names.
func record(fields []string, attrs map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		fields = append(fields, k+"="+attrs[k])
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // a strings.Builder takes all
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}
