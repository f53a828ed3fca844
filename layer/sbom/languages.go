package sbom

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// parseGemspec parses the specification of an installed Ruby gem, which gem writes with one
// field on a line. Expressions of Ruby are not evaluated.
func parseGemspec(b []byte) ([]Package, error) {
	p := Package{Type: Gem}
	for len(b) > 0 {
		var text []byte
		text, b, _ = bytes.Cut(b, []byte("\n"))
		left, right, ok := strings.Cut(string(text), "=")
		if !ok {
			continue
		}
		left, right = strings.TrimSpace(left), strings.TrimSpace(right)
		field := left[strings.LastIndexByte(left, '.')+1:]
		if field == left {
			continue
		}
		switch field {
		case "name":
			p.Name = rubyString(right)
		case "version":
			p.Version = rubyString(right)
		case "licenses":
			list, ok := strings.CutPrefix(right, "[")
			if ok && strings.Count(list, ",") == 0 {
				p.License = rubyString(list)
			}
		}
	}
	if p.Name == "" || p.Version == "" {
		return nil, nil
	}
	return add(nil, p)
}

// rubyString returns the string that a Ruby expression begins with, or "".
func rubyString(s string) string {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		return ""
	}
	end := strings.IndexByte(s[1:], s[0])
	if end < 0 || strings.Contains(s[1:end+1], "#{") {
		return ""
	}
	return s[1 : end+1]
}

// parseComposer parses Composer's installed.json: a list of packages, or an object with it.
func parseComposer(b []byte) (all []Package, err error) {
	type entry struct {
		Name    string   `json:"name"`
		Version string   `json:"version"`
		License []string `json:"license"`
	}
	var list []entry
	if err := json.Unmarshal(b, &list); err != nil {
		var object struct {
			Packages []entry `json:"packages"`
		}
		if err := json.Unmarshal(b, &object); err != nil {
			return nil, err
		}
		list = object.Packages
	}
	for _, e := range list {
		p := Package{Type: Composer, Name: e.Name, Version: e.Version}
		if len(e.License) == 1 {
			p.License = e.License[0]
		}
		if p.Name == "" {
			continue
		}
		if all, err = add(all, p); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// parseDeps parses the deps.json of a .NET application. Of the projects only the application
// itself counts, whose name the file has, and packages without a library for it do not.
func parseDeps(c *contents) (all []Package, err error) {
	b, err := c.bytes()
	if err != nil {
		return nil, err
	}
	app := strings.TrimSuffix(c.name, ".deps.json")
	var f struct {
		Target struct {
			Name string `json:"name"`
		} `json:"runtimeTarget"`
		Targets map[string]map[string]struct {
			Runtime   map[string]json.RawMessage `json:"runtime"`
			Resources map[string]json.RawMessage `json:"resources"`
		} `json:"targets"`
		Libraries map[string]struct {
			Type string `json:"type"`
		} `json:"libraries"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	target := f.Targets[f.Target.Name]
	for _, id := range slices.Sorted(maps.Keys(target)) {
		name, version, _ := strings.Cut(id, "/")
		if f.Libraries[id].Type == "project" && name != app || len(target[id].Runtime)+len(target[id].Resources) == 0 {
			continue
		}
		if all, err = add(all, Package{Type: NuGet, Name: name, Version: version}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// maxAudit is the size of the list of crates in a program.
const maxAudit = 8 << 20

var errAudit = fmt.Errorf("a list of crates of more than %d bytes", maxAudit)

// parseRust lists the crates in a program that cargo auditable built.
func parseRust(r io.ReaderAt) (all []Package, err error) {
	defer func() {
		if p := recover(); p != nil { // the parsers of debug are not made for hostile files
			all, err = nil, fmt.Errorf("read the list of crates: %v", p)
		}
	}()
	if err := checkNames(r); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, nil
	}
	s := f.Section(".dep-v0")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if s.FileSize > maxAudit || s.Flags&elf.SHF_COMPRESSED != 0 {
		return nil, errAudit
	}
	z, err := zlib.NewReader(s.Open())
	if err != nil {
		return nil, fmt.Errorf("read the list of crates: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxAudit+1))
	if len(b) > maxAudit {
		err = errAudit
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of crates: %w", err)
	}
	return crates(b)
}

func crates(b []byte) (all []Package, err error) {
	var list struct {
		Packages []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
			Kind    string `json:"kind"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read the list of crates: %w", err)
	}
	for _, c := range list.Packages {
		if c.Kind != "" && c.Kind != "runtime" {
			continue
		}
		if c.Name == "" {
			return nil, errNoName
		}
		if all, err = add(all, Package{Type: Cargo, Name: c.Name, Version: c.Version}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// parseExecutable lists the packages in a program of Go or Rust.
func parseExecutable(c *contents) ([]Package, error) {
	all, err := parseGo(c)
	if err != nil {
		return nil, err
	}
	more, err := parseRust(c)
	if err != nil && len(all) > 0 {
		return all, nil
	}
	return append(all, more...), err
}
