package report

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// Format is the format of a report.
type Format string

// The formats.
const (
	FormatHTML     Format = "html"
	FormatMarkdown Format = "md"
	FormatJSON     Format = "json"
)

// FormatOf returns the format of a file by its name.
func FormatOf(name string) (Format, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".html", ".htm":
		return FormatHTML, nil
	case ".md", ".markdown":
		return FormatMarkdown, nil
	case ".json":
		return FormatJSON, nil
	}
	return "", fmt.Errorf("the name of a report ends with .html, .md or .json, and %q does not", filepath.Base(name))
}

// Write writes a report.
func (b *Build) Write(w io.Writer, f Format) error {
	switch f {
	case FormatHTML:
		return HTML(w, b)
	case FormatMarkdown:
		return Markdown(w, b)
	}
	return JSON(w, b)
}

// JSON writes all data of the build.
func JSON(w io.Writer, b *Build) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(b)
}
