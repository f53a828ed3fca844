package kaniko

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/atomicfile"
	"github.com/cairn-build/cairn/registry/reference"
)

// Files are the files with the digest of the image. Those without a name are not written.
type Files struct {
	Digest       string // file or URL
	Name         string // lines NAME@DIGEST
	NameTag      string // lines NAME:TAG@DIGEST
	Output       string // lines of JSON
	Destinations []string
}

// Prepare makes the directories of the files and removes files of an earlier build, which
// would be misleading if this one fails. It returns an error if the build will not be able
// to write them.
func (f *Files) Prepare() error {
	for _, name := range f.paths() {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := errors.Join(removeOld(name), atomicfile.Check(name)); err != nil {
			return err
		}
	}
	return nil
}

// removeOld removes a regular file. Devices and the empty file that Tekton made stay.
func removeOld(name string) error {
	if fi, err := os.Lstat(name); err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return nil
	}
	return atomicfile.Remove(name)
}

// paths returns the files that are on this machine.
func (f *Files) paths() (names []string) {
	for _, name := range []string{f.Digest, f.Name, f.NameTag, f.Output} {
		if name != "" && !isURL(name) {
			names = append(names, name)
		}
	}
	return names
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// Write writes the files. The digest of --digest-file has no newline.
func (f *Files) Write(ctx context.Context, digest layer.Digest) error {
	var names, tags, output strings.Builder
	for _, d := range f.Destinations {
		full, err := reference.Normalize(d)
		if err != nil {
			return err
		}
		r, err := reference.Parse(full)
		if err != nil {
			return err
		}
		host := r.Domain
		if host == reference.Hub {
			host = "index.docker.io" // as kaniko has it
		}
		name := host + "/" + r.Repo
		fmt.Fprintf(&names, "%s@%s\n", name, digest)
		if r.Tag != "" {
			name += ":" + r.Tag
		}
		fmt.Fprintf(&tags, "%s@%s\n", name, digest)
		line, err := json.Marshal(outputLine{name, digest})
		if err != nil {
			return err
		}
		output.Write(append(line, '\n'))
	}
	for _, w := range []struct{ name, text string }{{f.Digest, string(digest)}, {f.Name, names.String()}, {f.NameTag, tags.String()}, {f.Output, output.String()}} {
		if err := write(ctx, w.name, w.text); err != nil {
			return err
		}
	}
	return nil
}

// outputLine is a line of $BUILDER_OUTPUT/images.
type outputLine struct {
	Name   string       `json:"name"`
	Digest layer.Digest `json:"digest"`
}

func write(ctx context.Context, name, text string) error {
	switch {
	case name == "":
		return nil
	case isURL(name):
		return put(ctx, name, text)
	}
	err := atomicfile.Output(name, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// put sends the text to a URL. Errors do not contain its query, which may have a token.
func put(ctx context.Context, at, text string) error {
	shown, _, _ := strings.Cut(at, "?")
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, at, strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("--digest-file %s is not a URL", shown)
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := http.DefaultClient.Do(req)
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			err = fmt.Errorf("the server answers %s", resp.Status)
		}
	}
	if err != nil {
		return fmt.Errorf("send the digest to %s: %w", shown, err)
	}
	return nil
}
