package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/http"
	"github.com/cairn-build/cairn/layer"
)

// Git is the tree of a repository's commit, a root that is used through
// selections only. What it holds is known when the commit is: whoever runs it
// pins that.
type Git struct {
	Remote         string      `json:"remote"` // without users and passwords
	Ref            string      `json:"ref,omitempty"`
	Checksum       string      `json:"checksum,omitempty"`
	Subdir         string      `json:"subdir,omitempty"`
	KeepGitDir     bool        `json:"keep_git_dir,omitempty"`
	SkipSubmodules bool        `json:"skip_submodules,omitempty"`
	CommitTime     bool        `json:"commit_time,omitempty"`
	FetchByCommit  bool        `json:"fetch_by_commit,omitempty"`
	Extra          RemoteExtra `json:"-"`
}

// HTTP is a tree with one file, a root that is used through selections only. The
// file has mode 0600 and the time that the server says, or 1970.
type HTTP struct {
	URL    string       `json:"url"`  // without users and passwords
	Name   string       `json:"name"` // of the file
	Digest layer.Digest `json:"digest,omitempty"`
	Extra  RemoteExtra  `json:"-"`
}

// RemoteExtra is where it is in full.
type RemoteExtra struct {
	URL string `json:"url"`
}

func (Git) isOp()  {}
func (HTTP) isOp() {}

// Request is what a git source fetches for it.
func (o Git) Request() git.Request {
	return git.Request{
		Remote: o.Extra.URL, Ref: o.Ref, Checksum: o.Checksum, Subdir: o.Subdir, KeepGitDir: o.KeepGitDir,
		SkipSubmodules: o.SkipSubmodules, CommitTime: o.CommitTime, FetchByCommit: o.FetchByCommit,
	}
}

// gitStep is the root for a git URL. Equal ones are one step.
func (p *planner) gitStep(r git.Request) *solve.Step {
	op := Git{
		Remote: source.Redact(r.Remote), Ref: r.Ref, Checksum: r.Checksum, Subdir: r.Subdir, KeepGitDir: r.KeepGitDir,
		SkipSubmodules: r.SkipSubmodules, CommitTime: r.CommitTime, FetchByCommit: r.FetchByCommit,
	}
	return p.remoteStep(encode("git", op), r.Remote)
}

// httpStep is the root for a file's URL.
func (p *planner) httpStep(url string, want layer.Digest) *solve.Step {
	return p.remoteStep(encode("http", HTTP{URL: source.Redact(url), Name: http.FileName(url), Digest: want}), url)
}

func (p *planner) remoteStep(op, url string) *solve.Step {
	s := &solve.Step{Op: op, Extra: encode("", RemoteExtra{url})}
	key := s.Op + s.Extra
	if old, ok := p.remotes[key]; ok {
		return old
	}
	p.remotes[key] = s
	return s
}

// remote gives the step of a source that is a URL, and what is copied of it;
// nil for one that is a path.
func (p *planner) remote(cp *copying, src string) (*solve.Step, CopySource, error) {
	ref, err := git.Parse(src)
	switch {
	case err == nil && !ref.Local:
		return p.remoteGit(cp, ref)
	case err != nil && !errors.Is(err, git.ErrNotGit):
		return nil, CopySource{}, err
	case webURL(src):
		return p.remoteHTTP(cp, src)
	}
	if cp.checksum != "" {
		return nil, CopySource{}, errors.New("checksum requires HTTP(S) or Git sources")
	}
	return nil, CopySource{}, nil
}

func webURL(src string) bool {
	return strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")
}

// isURL tells a source of ADD that is fetched from one that is a path.
func isURL(src string) bool {
	ref, err := git.Parse(src)
	return webURL(src) || err == nil && !ref.Local
}

func (p *planner) remoteGit(cp *copying, ref *git.Ref) (*solve.Step, CopySource, error) {
	if cp.word != "ADD" {
		return nil, CopySource{}, errors.New("source can't be a git ref for COPY")
	}
	keep := cp.keepGitDir
	if keep != nil && ref.KeepGitDir != nil && *keep != *ref.KeepGitDir {
		return nil, CopySource{}, errors.New("inconsistent keep-git-dir configuration")
	}
	if cp.checksum != "" {
		if err := ref.Expect(cp.checksum); err != nil {
			return nil, CopySource{}, err
		}
	}
	return p.gitStep(ref.Request(keep != nil && *keep)), CopySource{Path: "/", Literal: true}, nil
}

func (p *planner) remoteHTTP(cp *copying, src string) (*solve.Step, CopySource, error) {
	if cp.word != "ADD" {
		return nil, CopySource{}, errors.New("source can't be a URL for COPY")
	}
	want := layer.Digest(cp.checksum)
	if want != "" {
		if err := want.Validate(); err != nil {
			return nil, CopySource{}, fmt.Errorf("--checksum: %w", err)
		}
	}
	if !validText(src) {
		return nil, CopySource{}, fmt.Errorf("URL %q: not valid UTF-8", source.Redact(src))
	}
	unpack := cp.unpack != nil && *cp.unpack
	return p.httpStep(src, want), CopySource{Path: "/" + http.FileName(src), Literal: true, Unpack: unpack}, nil
}

// selecting collects what a copy uses of its inputs, in the order in which they
// are first needed.
type selecting struct {
	like  Selection
	steps []*solve.Step
	sels  []Selection
}

// add notes that a source is copied from a step, and tells which input that is.
func (s *selecting) add(step *solve.Step, src CopySource) int {
	for i, have := range s.steps {
		if have == step {
			s.sels[i].Paths = append(s.sels[i].Paths, src.selected())
			return i + 1
		}
	}
	sel := s.like
	sel.Paths = []SelPath{src.selected()}
	s.steps, s.sels = append(s.steps, step), append(s.sels, sel)
	return len(s.steps)
}

func (c CopySource) selected() SelPath {
	return SelPath{c.Path, c.Parents, c.Include, c.Required, c.Literal}
}

// inputs are those of the copy's step, on top of what lies below.
func (s *selecting) inputs(below *solve.Step) []solve.Input {
	ins := []solve.Input{{Step: below}}
	for i, step := range s.steps {
		ins = append(ins, solve.Input{Step: step, Sel: encode("", s.sels[i])})
	}
	return ins
}

// announceRemotes shows what is fetched for an ADD under the name of the ADD, as
// BuildKit does.
func (p *planner) announceRemotes(s *stage, c command, ins []solve.Input, name string) {
	for _, in := range ins[1:] {
		if in.Step.Extra == "" || p.shownRemote[in.Step] {
			continue
		}
		if !Fetched(in.Step) {
			continue
		}
		p.shownRemote[in.Step] = true
		p.steps = append(p.steps, &StepInfo{Step: in.Step, Name: name, Stage: s.name, Ranges: c.Info().Ranges, History: -1})
	}
}

// Fetched tells whether a step is a source that a server has: a [Git] or [HTTP].
func Fetched(s *solve.Step) bool {
	kind := Kind(s)
	return kind == "git" || kind == "http"
}

// redacted shows an instruction's sources without users and passwords.
func redacted(in dockerfile.Instruction, text string) string {
	if _, ok := in.(*dockerfile.Add); ok {
		return source.Redact(text)
	}
	return text
}
