// Package git fetches repositories, for ADD and for contexts, with the program
// git.
//
// A [Request] is first pinned: one ls-remote tells which commit the name of a
// branch or tag means now. What the commit holds never changes, so a checkout
// that the store has is not made again. Otherwise that commit alone is fetched,
// without its history, into a bare repository of the store that all builds
// share, under a lock, and checked out from there.
//
// Repositories are foreign. Git is run without the machine's and the user's
// configuration, without prompts, hooks and filters, and speaks http, https, ssh
// and git only: a submodule can't be a folder of this machine. Nothing that
// comes from a Dockerfile or a server stands where git takes options. Credentials
// are neither on a command line nor in a URL that git sees, so that other users,
// logs and .git have none.
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

	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/layer/store"
)

// Options say what a Source works with.
type Options struct {
	Store *store.Store

	// Secrets may have GIT_AUTH_TOKEN, a password, and GIT_AUTH_HEADER, the value
	// of an Authorization header; with .<host> after it, for that host alone. Nil:
	// none.
	Secrets source.Secrets

	// Agent opens the build's ssh agent: a socket, and what ends it. Nil: the
	// build has none, so that ssh can't be used.
	Agent func(context.Context) (socket string, done func() error, err error)
}

// Source fetches repositories. See [New].
type Source struct {
	o Options

	mu    sync.Mutex
	known map[Request]*asked
}

// asked is what a server says of a name; who asks second waits.
type asked struct {
	sync.Mutex
	pin Pin // zero: not known yet
}

// New makes a Source for one build: what a name means is asked once.
func New(o Options) *Source {
	return &Source{o: o, known: map[Request]*asked{}}
}

// Request is what to fetch, and how it is to look.
type Request struct {
	Remote         string // as [Ref] has it
	Ref            string // "" is the default branch
	Checksum       string // of the commit, or its beginning; "" is any
	Subdir         string // relative; "" is all
	KeepGitDir     bool   // with .git; not where there is a Subdir, as with BuildKit
	SkipSubmodules bool
	CommitTime     bool // files are as old as the commit, not as the checkout
	FetchByCommit  bool // Checksum is the commit, wherever Ref is now
}

// Request gives what a URL asks for. keepGitDir is what else asks for .git: what
// the URL says comes first.
func (r *Ref) Request(keepGitDir bool) Request {
	if r.KeepGitDir != nil {
		keepGitDir = *r.KeepGitDir
	}
	return Request{
		Remote: r.Remote, Ref: r.Ref, Checksum: r.Checksum, Subdir: r.Subdir, KeepGitDir: keepGitDir,
		SkipSubmodules: r.Submodules != nil && !*r.Submodules, CommitTime: r.MTime == "commit", FetchByCommit: r.FetchByCommit,
	}
}

// Pin is what a Request means at the time of asking.
type Pin struct {
	Ref    string // in full, as in refs/heads/main; "" for a commit without a name
	Object string // what Ref is: a commit, or the object of an annotated tag
	Commit string // "" if Object may be a tag that nobody looked into
}

// Key names what a checkout holds: requests with the same key give the same
// files (but for times, unless they are the commit's).
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

// Resolve finds the commit of a request. log takes what git says; it may be nil.
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

// once asks, unless that was done.
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

// static pins what names its commit itself.
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

// ask is the one question to a server: which commit is it.
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

// defaultBranch reads what ls-remote says of HEAD.
func defaultBranch(out string) (p Pin, err error) {
	for line := range strings.Lines(out) {
		what, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if name != "HEAD" {
			continue
		}
		if ref, ok := strings.CutPrefix(what, "ref: "); ok {
			p.Ref = ref
		} else {
			p.Object = what
		}
	}
	if !strings.HasPrefix(p.Ref, "refs/heads/") || strings.ContainsFunc(p.Ref, notInRef) || !commitID(p.Object) {
		return Pin{}, errors.New("the repository has no default branch: name one after #")
	}
	return p, nil
}

// pick finds a name among what ls-remote lists: refs/NAME comes first, then a
// branch, then a tag, as with git checkout.
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

// credentials gives what authorizes requests over http: the URL without user and
// password, and a header. A secret comes before what the URL has.
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
			return "", "", fmt.Errorf("secret %s: a header has one line", id)
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

// scope is the part of the web that a header is for: the repository, and on
// github.com all of them, as submodules are often there too.
func scope(remote string) string {
	for _, pfx := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, pfx) {
			return pfx
		}
	}
	return remote
}
