package sbom

import (
	"encoding/json"
	"errors"
)

// parseNPM parses a package.json. One without a name describes no package.
func parseNPM(b []byte) ([]Package, error) {
	var f struct {
		Name     json.RawMessage `json:"name"`
		Version  json.RawMessage `json:"version"`
		License  json.RawMessage `json:"license"`
		Licenses json.RawMessage `json:"licenses"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return nil, nil // JSON, but not an object
		}
		return nil, err
	}
	p := Package{Type: NPM, Name: text(f.Name), Version: text(f.Version), License: npmLicense(f.License)}
	if p.Name == "" {
		return nil, nil
	}
	if p.License == "" {
		var many []json.RawMessage
		if json.Unmarshal(f.Licenses, &many) == nil && len(many) == 1 {
			p.License = npmLicense(many[0])
		}
	}
	return add(nil, p)
}

// text returns a JSON string, or "" for other values.
func text(b json.RawMessage) (s string) {
	if len(b) == 0 || json.Unmarshal(b, &s) != nil {
		return ""
	}
	return s
}

// npmLicense returns the license in a string or an object of the old form.
func npmLicense(b json.RawMessage) string {
	if s := text(b); s != "" {
		return s
	}
	var old struct {
		Type string `json:"type"`
	}
	if len(b) == 0 || json.Unmarshal(b, &old) != nil {
		return ""
	}
	return old.Type
}

// parseDirectURL parses the direct_url.json of a Python package. The result has only the
// source of a package that was installed from a version control system.
func parseDirectURL(b []byte) ([]Package, error) {
	var f struct {
		URL string `json:"url"`
		VCS struct {
			Commit string `json:"commit_id"`
			VCS    string `json:"vcs"`
		} `json:"vcs_info"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	if f.VCS.VCS == "" {
		return nil, nil
	}
	return add(nil, Package{Type: PyPI, VCS: f.VCS.VCS + "+" + f.URL + "@" + f.VCS.Commit})
}
