package sbom

import (
	"bytes"
	"fmt"
	"strings"
)

// fields is a paragraph of lines "Name: value". The names are in lower case.
type fields map[string]string

// paragraphs calls f for each paragraph of a file of Debian's control format. Of the fields it
// keeps those in want. Continuation lines belong to the field before them.
func paragraphs(b []byte, want func(name string) bool, f func(fields) error) error {
	now, last, line := fields{}, "", 0
	for len(b) > 0 {
		var text []byte
		text, b, _ = bytes.Cut(b, []byte("\n"))
		line++
		text = bytes.TrimRight(text, "\r")
		switch {
		case len(bytes.TrimSpace(text)) == 0:
			if len(now) > 0 {
				if err := f(now); err != nil {
					return fmt.Errorf("paragraph before line %d: %w", line, err)
				}
			}
			now, last = fields{}, ""
		case text[0] == ' ' || text[0] == '\t':
			if last == "" {
				continue
			}
			if len(now[last])+len(text) > 16*maxField {
				return fmt.Errorf("line %d: field %s is too long", line, last)
			}
			now[last] += "\n" + string(bytes.TrimSpace(text))
		default:
			name, value, ok := bytes.Cut(text, []byte(":"))
			if last = ""; !ok {
				continue
			}
			key := strings.ToLower(string(bytes.TrimSpace(name)))
			if !want(key) {
				continue
			}
			if _, twice := now[key]; twice {
				return fmt.Errorf("line %d: field %s is there twice", line, key)
			}
			now[key], last = string(bytes.TrimSpace(value)), key
		}
	}
	if len(now) > 0 {
		return f(now)
	}
	return nil
}

func wantDpkg(name string) bool {
	switch name {
	case "package", "version", "architecture", "source", "status":
		return true
	}
	return false
}

// parseDpkg parses dpkg's status file, or a file of status.d in distroless images. A package
// that was removed but whose configuration stays does not count.
func parseDpkg(b []byte) (all []Package, err error) {
	err = paragraphs(b, wantDpkg, func(f fields) (err error) {
		if f["package"] == "" || strings.Contains(f["status"], "deinstall") || strings.HasSuffix(f["status"], "not-installed") {
			return nil
		}
		p := Package{Type: Deb, Name: f["package"], Version: f["version"], Arch: f["architecture"]}
		name, version, ok := strings.Cut(f["source"], " ")
		if p.Source = name; ok {
			version = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(version), "("), ")")
			p.Source += "@" + version
		}
		all, err = add(all, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// parseAPK parses apk's database of installed packages.
func parseAPK(b []byte) (all []Package, err error) {
	p := Package{Type: APK}
	end := func() error {
		done := p
		p = Package{Type: APK}
		if done == p {
			return nil
		}
		if done.Name == "" {
			return errNoName
		}
		if done.Source == done.Name {
			done.Source = ""
		}
		var err error
		all, err = add(all, done)
		return err
	}
	line := 0
	for len(b) > 0 {
		var text []byte
		text, b, _ = bytes.Cut(b, []byte("\n"))
		line++
		if len(text) == 0 {
			if err := end(); err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			continue
		}
		if len(text) < 2 || text[1] != ':' {
			continue
		}
		var to *string
		switch text[0] {
		case 'P':
			to = &p.Name
		case 'V':
			to = &p.Version
		case 'A':
			to = &p.Arch
		case 'o':
			to = &p.Source
		case 'L':
			to = &p.License
		default:
			continue
		}
		if len(text) > 4*maxField {
			return nil, fmt.Errorf("line %d: a field of %d bytes", line, len(text))
		}
		*to = string(text[2:])
	}
	if err := end(); err != nil {
		return nil, err
	}
	return all, nil
}

// parsePython parses the metadata of an installed Python package, whose first paragraph has
// the fields. A field that is there twice has its last value.
func parsePython(b []byte) (all []Package, err error) {
	b = bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\ufeff")), "\r\n")
	p := Package{Type: PyPI}
	for len(b) > 0 {
		var text []byte
		text, b, _ = bytes.Cut(b, []byte("\n"))
		if text = bytes.TrimRight(text, "\r"); len(text) == 0 {
			break
		}
		name, value, ok := bytes.Cut(text, []byte(":"))
		if !ok || text[0] == ' ' || text[0] == '\t' {
			continue
		}
		v := string(bytes.TrimSpace(value))
		switch strings.ToLower(string(name)) {
		case "name":
			p.Name = normalPython(v)
		case "version":
			p.Version = v
		case "license-expression":
			p.License = v
		case "license":
			if p.License == "" && !bytes.HasPrefix(b, []byte(" ")) { // not the text of a license
				p.License = v
			}
		}
	}
	if p.Name == "" {
		return nil, nil
	}
	return add(nil, p)
}

// normalPython returns the normalized form of a Python package's name.
func normalPython(name string) string {
	var b strings.Builder
	dash := false
	for _, r := range strings.ToLower(name) {
		if r == '-' || r == '_' || r == '.' {
			dash = true
			continue
		}
		if dash {
			b.WriteByte('-')
		}
		dash = false
		b.WriteRune(r)
	}
	if dash {
		b.WriteByte('-')
	}
	return b.String()
}

// parseOSRelease parses an os-release file.
func parseOSRelease(b []byte) *OS {
	var o OS
	for line := range strings.SplitSeq(string(b), "\n") {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		value = oneLine(unquote(value))
		switch key {
		case "ID":
			o.ID = value
		case "ID_LIKE":
			o.Like = strings.Fields(value)
		case "VERSION_ID":
			o.VersionID = value
		case "BUILD_ID":
			o.BuildID = value
		case "PRETTY_NAME":
			o.Pretty = value
		case "CPE_NAME":
			o.CPE = value
		}
	}
	return &o
}

// debianVersion returns the point release in etc/debian_version, or "" for a name such as
// trixie/sid.
func debianVersion(b []byte) string {
	s := strings.TrimSpace(string(b))
	major, minor, point := strings.Cut(s, ".")
	digits := func(s string) bool { return s != "" && len(s) < 20 && strings.Trim(s, "0123456789") == "" }
	if !digits(major) || point && !digits(minor) {
		return ""
	}
	return s
}

// unquote removes the quotes and backslashes of a value for the shell.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		single := s[0] == '\''
		s = s[1 : len(s)-1]
		if single {
			return s
		}
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
