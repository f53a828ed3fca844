// Package git fetches repositories, for ADD and for contexts, with the program git.
//
// A [Request] is first pinned: one ls-remote resolves a branch or tag to its current
// commit. The content of a commit never changes, so a checkout that is in the store is
// reused. Otherwise only that commit is fetched, without its history, into a bare
// repository in the store that all builds share, and checked out from there. A lock
// protects the repository.
//
// Repositories are not trusted. Git is run without the machine's and the user's
// configuration, without prompts, hooks and filters, and only uses the protocols http,
// https, ssh and git: a submodule cannot be a folder of this machine. Text from a
// Dockerfile or a server never takes the place of an option of git. Credentials are
// neither on command lines nor in URLs that git sees, so that other users, logs and .git
// do not have them.
package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/store"
)

// Options configure a Source.
type Options struct {
	Store *store.Store

	// Secrets may have GIT_AUTH_TOKEN, a password, and GIT_AUTH_HEADER, the value of an
	// Authorization header. With the suffix .<host> they are for that host only. It may
	// be nil.
	Secrets source.Secrets

	// Agent opens the build's ssh agent. It returns a socket and a function that closes
	// it. If Agent is nil, ssh cannot be used.
	Agent func(context.Context) (socket string, done func() error, err error)

	// Patience is the time after which a stalled transfer over HTTP ends; 0 is five
	// minutes.
	Patience time.Duration
}

// Source fetches repositories. See [New].
type Source struct {
	o Options

	mu    sync.Mutex
	known map[Request]*asked
}

// asked is the answer of a server about a name. Its lock is held during the question.
type asked struct {
	sync.Mutex
	pin Pin // zero until it is known
}

// New returns a Source for one build, which resolves each name once.
func New(o Options) *Source {
	return &Source{o: o, known: map[Request]*asked{}}
}

// Request describes files to fetch.
type Request struct {
	Remote         string // as in [Ref]
	Ref            string // "" is the default branch
	Checksum       string // of the commit, or a prefix of it; "" is any
	Subdir         string // relative; "" is the whole repository
	KeepGitDir     bool   // keep .git; ignored with a Subdir, like in BuildKit
	SkipSubmodules bool
	CommitTime     bool // files have the time of the commit, not of the checkout
	FetchByCommit  bool // fetch the commit Checksum, regardless of Ref
}

// Request returns the request of a URL. keepGitDir applies if the URL does not have that
// option.
func (r *Ref) Request(keepGitDir bool) Request {
	if r.KeepGitDir != nil {
		keepGitDir = *r.KeepGitDir
	}
	return Request{
		Remote: r.Remote, Ref: r.Ref, Checksum: r.Checksum, Subdir: r.Subdir, KeepGitDir: keepGitDir,
		SkipSubmodules: r.Submodules != nil && !*r.Submodules, CommitTime: r.MTime == "commit", FetchByCommit: r.FetchByCommit,
	}
}

// Pin is the object that a Request refers to at some time.
type Pin struct {
	Ref    string // full name, as in refs/heads/main; "" for a commit without a name
	Object string // target of Ref: a commit, or the object of an annotated tag
	Commit string // "" if it is not known whether Object is a commit or a tag
}

// Key identifies the content of a checkout: requests with the same key have the same
// files. Only with CommitTime these have the same times.
func (r Request) Key(p Pin) string {
	key := p.Object
	if p.Commit != "" && !r.KeepGitDir {
		key = p.Commit
	}
	if r.KeepGitDir {
		key += ".git#" + p.Ref
	}
	if r.Subdir != "" {
		key += ":" + r.Subdir
	}
	if r.SkipSubmodules {
		key += "(skip-submodules)"
	}
	if r.CommitTime {
		key += "(mtime=commit)"
	}
	return key
}

// Resolve finds the commit of a request. It writes messages of git to log, which may be
// nil.
func (s *Source) Resolve(ctx context.Context, r Request, log io.Writer) (Pin, error) {
	if p, ok, err := r.static(); ok || err != nil {
		return p, err
	}
	p, err := s.once(ctx, r, log)
	if err != nil {
		return Pin{}, fmt.Errorf("%s: %w", source.Redact(r.Remote), err)
	}
	sum := strings.ToLower(r.Checksum)
	if !strings.HasPrefix(p.Object, sum) && !strings.HasPrefix(p.Commit, sum) {
		return Pin{}, mismatch(r, p)
	}
	return p, nil
}

// once calls ask unless the answer is known.
func (s *Source) once(ctx context.Context, r Request, log io.Writer) (Pin, error) {
	s.mu.Lock()
	key := Request{Remote: r.Remote, Ref: r.Ref}
	a, ok := s.known[key]
	if !ok {
		a = &asked{}
		s.known[key] = a
	}
	s.mu.Unlock()
	a.Lock()
	defer a.Unlock()
	var err error
	if a.pin == (Pin{}) {
		a.pin, err = s.ask(ctx, r, log)
	}
	return a.pin, err
}

func mismatch(r Request, p Pin) error {
	have := p.Object
	if p.Commit != "" && p.Commit != p.Object {
		have += " or " + p.Commit
	}
	return fmt.Errorf("%s: expected checksum to match %s, got %s", source.Redact(r.Remote), r.Checksum, have)
}

// static pins a request that names its commit.
func (r Request) static() (p Pin, ok bool, err error) {
	sum := strings.ToLower(r.Checksum)
	switch {
	case commitID(r.Ref):
		if !strings.HasPrefix(r.Ref, sum) {
			return p, false, mismatch(r, Pin{Object: r.Ref})
		}
		return Pin{Object: r.Ref}, true, nil
	case !r.FetchByCommit:
		return p, false, nil
	case sum == "":
		return p, false, errors.New("fetch-by-commit requires a checksum or a commit SHA ref")
	case !commitID(sum):
		return p, false, fmt.Errorf("fetch-by-commit requires a full commit SHA checksum, got %q", r.Checksum)
	}
	ref := r.Ref
	if ref != "" && !strings.HasPrefix(ref, "refs/") {
		ref = "refs/heads/" + ref
	}
	return Pin{Ref: ref, Object: sum}, true, nil
}

// ask asks the server for the commit of a request.
func (s *Source) ask(ctx context.Context, r Request, log io.Writer) (Pin, error) {
	g, err := s.program(ctx, r.Remote, log)
	if err != nil {
		return Pin{}, err
	}
	defer g.close()
	if r.Ref == "" {
		out, err := g.run(ctx, "ls-remote", "--symref", "--", g.remote, "HEAD")
		if err != nil {
			return Pin{}, err
		}
		return defaultBranch(out)
	}
	out, err := g.run(ctx, "ls-remote", "--", g.remote, r.Ref, r.Ref+"^{}")
	if err != nil {
		return Pin{}, err
	}
	return pick(out, r.Ref)
}

// defaultBranch parses the output of ls-remote for HEAD.
func defaultBranch(out string) (p Pin, err error) {
	for line := range strings.Lines(out) {
		target, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name != "HEAD" {
			continue
		}
		if ref, ok := strings.CutPrefix(target, "ref: "); ok {
			p.Ref = ref
		} else {
			p.Object = target
		}
	}
	if !strings.HasPrefix(p.Ref, "refs/heads/") || strings.ContainsFunc(p.Ref, notInRef) || !commitID(p.Object) {
		return Pin{}, errors.New("the repository has no default branch: name one after #")
	}
	return p, nil
}

// pick finds a name in the output of ls-remote. It prefers refs/NAME, then a branch, then a
// tag, like git checkout.
func pick(out, ref string) (Pin, error) {
	found := map[string]string{}
	for line := range strings.Lines(out) {
		sha, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if commitID(sha) {
			found[name] = sha
		}
	}
	tag := prefixed("refs/tags/", ref)
	for _, name := range []string{prefixed("refs/", ref), prefixed("refs/heads/", ref), tag} {
		sha, ok := found[name]
		if !ok {
			continue
		}
		p := Pin{Ref: name, Object: sha}
		if name == tag {
			p.Commit = found[tag+"^{}"]
		}
		return p, nil
	}
	return Pin{}, fmt.Errorf("the repository does not contain ref %s", ref)
}

// credentials returns the URL without user and password, and the Authorization header for
// requests over http. A secret takes precedence over the password of the URL.
func (s *Source) credentials(remote string) (clean, header string, err error) {
	u, err := url.Parse(remote)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return remote, "", nil
	}
	if u.User != nil {
		pass, _ := u.User.Password()
		header = basic(u.User.Username(), pass)
		u.User = nil
		remote = u.String()
	}
	if s.o.Secrets == nil {
		return remote, header, nil
	}
	for _, id := range []string{"GIT_AUTH_HEADER." + u.Host, "GIT_AUTH_TOKEN." + u.Host, "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"} {
		v, ok, err := s.o.Secrets.Get(id)
		if err != nil {
			return "", "", err
		}
		if !ok {
			continue
		}
		value := strings.TrimSpace(string(v))
		if strings.ContainsAny(value, "\r\n\x00") {
			return "", "", fmt.Errorf("secret %s: a header cannot have several lines", id)
		}
		if strings.HasPrefix(id, "GIT_AUTH_TOKEN") {
			value = basic("x-access-token", value)
		}
		return remote, value, nil
	}
	return remote, header, nil
}

func basic(user, pass string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
}

// scope returns the URL prefix that a header is sent to: the repository, or all of
// github.com, because submodules are often there too.
func scope(remote string) string {
	for _, pfx := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, pfx) {
			return pfx
		}
	}
	return remote
}
