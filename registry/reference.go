package registry

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	// A reference's digest may be of any of these kinds; Normalize refuses all but sha256.
	_ "crypto/sha512"

	"github.com/cairn-build/cairn/layer"
)

const (
	hubName   = "docker.io"
	hubHost   = "registry-1.docker.io"
	hubLogin  = "https://index.docker.io/v1/" // docker's key for the Hub in config.json
	latestTag = "latest"
)

// Normalize returns ref in full: "busybox" is "docker.io/library/busybox:latest".
// A digest is kept, with the tag beside it when there is one.
func Normalize(ref string) (string, error) {
	named, err := parse(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// Familiar returns ref as people write it: without docker.io and library.
// What is no reference is returned as it is.
func Familiar(ref string) string {
	named, err := parse(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(named)
}

func parse(ref string) (reference.Named, error) {
	if secret, host, ok := strings.Cut(ref, "@"); ok && strings.Contains(secret, ":") && strings.Contains(host, "/") && !strings.Contains(ref, "://") {
		return nil, fmt.Errorf("image reference \"xxxxx@%s\": leave out user and password (cairn login keeps them)", host)
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w", ref, explain(ref, err))
	}
	if d, ok := named.(reference.Digested); ok {
		if err := layer.Digest(d.Digest()).Validate(); err != nil {
			return nil, fmt.Errorf("image reference %q: %w", ref, err)
		}
	}
	return reference.TagNameOnly(named), nil
}

var (
	tagRunes = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	badRunes = regexp.MustCompile(`[^A-Za-z0-9_.:/@+\[\]-]`)
)

// validTag counts by itself: an expression that counts to 127 is slow to compile,
// which every start would pay for.
func validTag(tag string) bool { return len(tag) <= 128 && tagRunes.MatchString(tag) }

// explain says which part of ref is wrong; the parser only knows that one is.
func explain(ref string, err error) error {
	switch {
	case ref == "":
		return errors.New("it is empty")
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

// A Reference is a reference taken apart.
type Reference struct {
	Domain string       // docker.io, localhost:5000
	Repo   string       // library/busybox
	Tag    string       // may be empty if Digest is not
	Digest layer.Digest // may be empty if Tag is not
}

// ParseReference takes a reference apart, as Normalize would write it.
func ParseReference(ref string) (Reference, error) {
	named, err := parse(ref)
	if err != nil {
		return Reference{}, err
	}
	r := Reference{Domain: reference.Domain(named), Repo: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		r.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		r.Digest = layer.Digest(digested.Digest())
	}
	return r, nil
}

// String is the normalized form.
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

// Familiar is the repository as people write it, without tag and digest.
func (r Reference) Familiar() string {
	return strings.TrimSuffix(Familiar(r.Domain+"/"+r.Repo+":"+latestTag), ":"+latestTag)
}

// identifier is what a manifest is asked for by: the digest if it is known.
func (r Reference) identifier() string {
	if r.Digest != "" {
		return string(r.Digest)
	}
	return r.Tag
}
