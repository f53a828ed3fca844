package git

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Ref is a parsed git URL of a Dockerfile or a context: a repository and a part of it. For
// example, "https://host/foo/bar.git#v1:docs" is the directory docs of v1.
type Ref struct {
	Remote   string // URL of the repository; it may have a user and a password
	Name     string // of the repository: bar
	Ref      string // branch, tag or commit; "" is the default branch
	Checksum string // of the commit, or a prefix of it
	Subdir   string

	KeepGitDir *bool // nil if the URL does not have the option
	Submodules *bool
	MTime      string // "", checkout or commit

	// FetchByCommit means to fetch the commit Checksum, regardless of Ref.
	FetchByCommit bool

	// Local is set for github.com/..., which could also be a path. Remote begins with
	// https:// then. Only the argument of a build may have this form.
	Local bool
}

// ErrNotGit is the error for a text that is not a git URL.
var ErrNotGit = errors.New("not a git URL")

var (
	scheme   = regexp.MustCompile(`^[a-zA-Z0-9]+://`)
	scpStyle = regexp.MustCompile(`^([a-zA-Z0-9-_]+)@([a-zA-Z0-9-.]+):(.*?)(?:\?(.*?))?(?:#(.*))?$`)
)

// Parse parses a git URL like BuildKit: git@host:path, ssh://, git://, and http:// and
// https:// if the path ends in .git. For other texts it returns ErrNotGit. Other errors
// are for invalid git URLs.
func Parse(text string) (*Ref, error) {
	r, query, fragment, err := parse(text)
	if err != nil {
		return nil, err
	}
	r.Name = strings.TrimSuffix(r.Remote[strings.LastIndexByte(r.Remote, '/')+1:], ".git")
	if fragment != "" {
		var subdir string
		r.Ref, subdir, _ = strings.Cut(fragment, ":")
		r.Subdir = strings.TrimPrefix(path.Join("/", subdir), "/")
	}
	if err := r.query(query); err != nil {
		return nil, err
	}
	r.Subdir = strings.TrimPrefix(path.Join("/", r.Subdir), "/")
	return r, r.check()
}

func parse(text string) (r *Ref, query url.Values, fragment string, err error) {
	if strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") {
		return nil, nil, "", ErrNotGit
	}
	if strings.HasPrefix(text, "github.com/") {
		u, err := url.Parse(text)
		if err != nil {
			return nil, nil, "", ErrNotGit
		}
		return &Ref{Remote: "https://" + bare(u), Local: true}, u.Query(), u.Fragment, nil
	}
	switch strings.ToLower(scheme.FindString(text)) {
	case "git://", "ssh://", "http://", "https://":
		u, err := url.Parse(text)
		if err != nil || strings.HasPrefix(u.Scheme, "http") && !strings.HasSuffix(u.Path, ".git") {
			return nil, nil, "", ErrNotGit
		}
		if u.Host == "" {
			return nil, nil, "", fmt.Errorf("invalid git repository %q", text)
		}
		return &Ref{Remote: bare(u)}, u.Query(), u.Fragment, nil
	case "":
		if m := scpStyle.FindStringSubmatch(text); m != nil {
			query, err := url.ParseQuery(m[4])
			if err != nil {
				return nil, nil, "", ErrNotGit
			}
			return &Ref{Remote: m[1] + "@" + m[2] + ":" + m[3]}, query, m[5], nil
		}
	}
	return nil, nil, "", ErrNotGit
}

// bare returns a URL without its query and fragment.
func bare(u *url.URL) string {
	b := *u
	b.RawQuery, b.Fragment, b.RawFragment = "", "", ""
	return b.String()
}

// query parses ?ref=, tag=, branch=, subdir=, checksum=, commit=, keep-git-dir=,
// submodules=, mtime= and fetch-by-commit=.
func (r *Ref) query(q url.Values) error {
	var tag, branch string
	for _, k := range slices.Sorted(maps.Keys(q)) {
		if len(q[k]) > 1 {
			return fmt.Errorf("query %q has multiple values", k)
		}
		v := q.Get(k)
		if v == "" && !flag(k) {
			return fmt.Errorf("query %q has no value", k)
		}
		var err error
		switch k {
		case "ref":
			err = agree("ref", &r.Ref, v)
		case "tag":
			tag = v
		case "branch":
			branch = v
		case "subdir":
			err = agree("subdir", &r.Subdir, v)
		case "checksum", "commit":
			r.Checksum = v
		case "keep-git-dir":
			r.KeepGitDir, err = boolean(k, v)
		case "submodules":
			r.Submodules, err = boolean(k, v)
		case "fetch-by-commit":
			var on *bool
			if on, err = boolean(k, v); err == nil {
				r.FetchByCommit = *on
			}
		case "mtime":
			if r.MTime = v; v != "checkout" && v != "commit" {
				err = fmt.Errorf(`invalid mtime value: %q (must be "checkout" or "commit")`, v)
			}
		default:
			err = fmt.Errorf("unexpected query %q", k)
		}
		if err != nil {
			return err
		}
	}
	return r.named(tag, branch)
}

// named sets the ref to the value of tag= or branch=.
func (r *Ref) named(tag, branch string) error {
	if tag != "" {
		if err := agree("ref", &r.Ref, prefixed("refs/tags/", tag)); err != nil {
			return err
		}
	}
	if branch == "" {
		return nil
	}
	if tag != "" {
		return errors.New("branch conflicts with tag")
	}
	return agree("ref", &r.Ref, prefixed("refs/heads/", branch))
}

func prefixed(prefix, name string) string {
	return prefix + strings.TrimPrefix(name, prefix)
}

// agree sets a field, and returns an error if it already has another value.
func agree(field string, have *string, v string) error {
	if *have != "" && *have != v {
		return fmt.Errorf("%s conflicts: %q vs %q", field, *have, v)
	}
	*have = v
	return nil
}

// flag reports whether a key without a value means true.
func flag(k string) bool {
	return k == "submodules" || k == "keep-git-dir" || k == "fetch-by-commit"
}

func boolean(k, v string) (*bool, error) {
	if v == "" {
		v = "true"
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return nil, fmt.Errorf("invalid %s value: %q", k, v)
	}
	return &b, nil
}

// Expect sets the checksum. It returns an error if the URL has another one.
func (r *Ref) Expect(checksum string) error {
	if r.Checksum != "" && r.Checksum != checksum {
		return fmt.Errorf("checksum mismatch %q != %q", checksum, r.Checksum)
	}
	r.Checksum = checksum
	return r.check()
}

// check returns an error for a ref or repository that git could mistake for an option, or
// that has an invalid name.
func (r *Ref) check() error {
	if strings.HasPrefix(r.Ref, "-") || strings.ContainsFunc(r.Ref, notInRef) || strings.Contains(r.Ref, "..") {
		return fmt.Errorf("invalid git ref %q", r.Ref)
	}
	if strings.HasPrefix(r.Remote, "-") || strings.Contains(r.Remote, "://-") || strings.Contains(r.Remote, "@-") ||
		strings.ContainsFunc(r.Remote, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return fmt.Errorf("invalid git repository %q", r.Remote)
	}
	if r.Checksum != "" && strings.Trim(strings.ToLower(r.Checksum), "0123456789abcdef") != "" {
		return fmt.Errorf("invalid checksum %s for Git URL, expected hex commit hash", r.Checksum)
	}
	return nil
}

func notInRef(c rune) bool {
	return c <= ' ' || c == 0x7f || strings.ContainsRune(`~^:?*[\`, c)
}

// commitID reports whether a name is the full name of an object.
func commitID(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}
