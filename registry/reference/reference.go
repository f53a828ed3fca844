// Package reference parses and normalizes image references: names of images with
// a tag or a digest.
package reference

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	distref "github.com/distribution/reference"
	// The parser accepts digests of registered hashes only. Those other than sha256
	// are rejected later, with a better error.
	_ "crypto/sha512"

	"github.com/cairn-build/cairn/layer"
)

const (
	Hub     = "docker.io"            // the domain of Docker Hub in references
	HubHost = "registry-1.docker.io" // the host that serves it

	latestTag = "latest"
)

// Normalize returns ref with its domain and its tag or digest: "busybox" becomes
// "docker.io/library/busybox:latest". If ref has both a tag and a digest, so has
// the result.
func Normalize(ref string) (string, error) {
	named, err := parse(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// Familiar returns ref in its short form, without docker.io and library. An
// invalid reference is returned unchanged.
func Familiar(ref string) string {
	named, err := parse(ref)
	if err != nil {
		return ref
	}
	return distref.FamiliarString(named)
}

func parse(ref string) (distref.Named, error) {
	if secret, host, ok := strings.Cut(ref, "@"); ok && strings.Contains(secret, ":") && strings.Contains(host, "/") && !strings.Contains(ref, "://") {
		return nil, fmt.Errorf("image reference \"xxxxx@%s\": leave out user and password (cairn login stores them)", host)
	}
	named, err := distref.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, &FormatError{ref, explain(ref, err), err}
	}
	if d, ok := named.(distref.Digested); ok {
		if err := layer.Digest(d.Digest()).Validate(); err != nil {
			return nil, fmt.Errorf("image reference %q: %w", ref, err)
		}
	}
	return distref.TagNameOnly(named), nil
}

// FormatError is the error of a reference that is not well-formed.
type FormatError struct {
	Ref    string
	Reason error
	Err    error // of the reference library of docker, whose text is known
}

func (e *FormatError) Error() string { return fmt.Sprintf("image reference %q: %v", e.Ref, e.Reason) }

func (e *FormatError) Unwrap() error { return e.Reason }

var (
	tagRunes = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	badRunes = regexp.MustCompile(`[^A-Za-z0-9_.:/@+\[\]-]`)
)

// validTag reports whether tag is valid. It compares the length itself, since an
// expression with a limit of 127 slows down the start of the program.
func validTag(tag string) bool { return len(tag) <= 128 && tagRunes.MatchString(tag) }

// explain returns an error that names the invalid part of ref, which err does not.
func explain(ref string, err error) error {
	switch {
	case ref == "":
		return errors.New("it is empty")
	case strings.HasPrefix(ref, "docker://"):
		return errors.New("leave out docker://")
	case strings.Contains(ref, "://"):
		return errors.New("leave out the scheme (http:// or https://)")
	case badRunes.MatchString(ref):
		return fmt.Errorf("%q cannot be part of a name", badRunes.FindString(ref))
	}
	name, digest, hasDigest := strings.Cut(ref, "@")
	if hasDigest {
		if e := layer.Digest(digest).Validate(); e != nil {
			return e
		}
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		tag := name[i+1:]
		name = name[:i]
		switch {
		case tag == "":
			return errors.New("no tag after the colon")
		case len(tag) > 128:
			return fmt.Errorf("the tag has %d characters, at most 128 are allowed", len(tag))
		case !validTag(tag):
			return fmt.Errorf("tag %q: want letters, digits, '_', '.' and '-', beginning with a letter, digit or '_'", tag)
		}
	}
	if name == "" {
		return errors.New("no name before the tag or digest")
	}
	if strings.ToLower(name) != name {
		return fmt.Errorf("the name must be lower case: %s", strings.ToLower(name))
	}
	if strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//") {
		return errors.New("empty part between slashes")
	}
	return fmt.Errorf("%w: want [host[:port]/]name[:tag][@digest], name parts of lower-case letters and digits separated by '.', '_', '__' or '-'", err)
}

// Reference is a parsed image reference.
type Reference struct {
	Domain string       // docker.io, localhost:5000
	Repo   string       // library/busybox
	Tag    string       // may be empty if Digest is not
	Digest layer.Digest // may be empty if Tag is not
}

// Parse parses a reference in any form that [Normalize] accepts.
func Parse(ref string) (Reference, error) {
	named, err := parse(ref)
	if err != nil {
		return Reference{}, err
	}
	r := Reference{Domain: distref.Domain(named), Repo: distref.Path(named)}
	if tagged, ok := named.(distref.Tagged); ok {
		r.Tag = tagged.Tag()
	}
	if digested, ok := named.(distref.Digested); ok {
		r.Digest = layer.Digest(digested.Digest())
	}
	return r, nil
}

// String returns the normalized form.
func (r Reference) String() string {
	s := r.Domain + "/" + r.Repo
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// Familiar returns the short form of the repository, without tag and digest.
func (r Reference) Familiar() string {
	return strings.TrimSuffix(Familiar(r.Domain+"/"+r.Repo+":"+latestTag), ":"+latestTag)
}

// Identifier returns the digest, or the tag if there is no digest: registries
// serve manifests under either.
func (r Reference) Identifier() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}

// ValidDomain returns an error unless spec is host[:port], optionally followed by
// the path of a mirror.
func ValidDomain(spec string) error {
	domain, path, _ := strings.Cut(spec, "/")
	if path != "" {
		if _, err := parse("x.invalid/" + path); err != nil {
			return err
		}
	}
	u, err := url.Parse("//" + domain)
	if err != nil || domain == "" || u.Host != domain || u.Hostname() == "" || u.User != nil || badRunes.MatchString(domain) {
		return fmt.Errorf("%q is not a host, want host or host:port", spec)
	}
	return nil
}
