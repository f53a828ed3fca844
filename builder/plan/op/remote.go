package op

import (
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer"
)

// Git is the tree of a commit: a root that other steps use through selections.
// Its content is known once the runner has resolved the commit.
type Git struct {
	Remote         string      `json:"remote"` // credentials masked
	Ref            string      `json:"ref,omitempty"`
	Checksum       string      `json:"checksum,omitempty"`
	Subdir         string      `json:"subdir,omitempty"`
	KeepGitDir     bool        `json:"keep_git_dir,omitempty"`
	SkipSubmodules bool        `json:"skip_submodules,omitempty"`
	CommitTime     bool        `json:"commit_time,omitempty"`
	FetchByCommit  bool        `json:"fetch_by_commit,omitempty"`
	Origin         string      `json:"origin,omitempty"` // of its credentials, if targets of the build fetch it with different ones
	Extra          RemoteExtra `json:"-"`
}

// HTTP is a tree of one file: a root that other steps use through selections.
// The file has mode 0600 and the modification time that the server sent, or
// 1970 if it sent none.
type HTTP struct {
	URL    string       `json:"url"`  // credentials masked
	Name   string       `json:"name"` // of the file
	Digest layer.Digest `json:"digest,omitempty"`
	Origin string       `json:"origin,omitempty"` // as that of a Git
	Extra  RemoteExtra  `json:"-"`
}

// RemoteExtra holds the URL with its credentials.
type RemoteExtra struct {
	URL    string `json:"url"`
	Origin string `json:"origin,omitempty"` // of other credentials, in a build of several targets
}

// NewGit returns the op that fetches r.
func NewGit(r git.Request) Git {
	return Git{
		Remote: source.Redact(r.Remote), Ref: r.Ref, Checksum: r.Checksum, Subdir: r.Subdir, KeepGitDir: r.KeepGitDir,
		SkipSubmodules: r.SkipSubmodules, CommitTime: r.CommitTime, FetchByCommit: r.FetchByCommit,
		Extra: RemoteExtra{URL: r.Remote},
	}
}

// Request returns the request that fetches o.
func (o Git) Request() git.Request {
	return git.Request{
		Remote: o.Extra.URL, Ref: o.Ref, Checksum: o.Checksum, Subdir: o.Subdir, KeepGitDir: o.KeepGitDir,
		SkipSubmodules: o.SkipSubmodules, CommitTime: o.CommitTime, FetchByCommit: o.FetchByCommit,
	}
}

// NewHTTP returns the op that downloads url. The file must have the digest
// want, unless that is "".
func NewHTTP(url string, want layer.Digest) HTTP {
	return HTTP{URL: source.Redact(url), Name: httpsource.FileName(url), Digest: want, Extra: RemoteExtra{URL: url}}
}

// Fetched reports whether a step downloads its files: whether it is a [Git] or
// an [HTTP].
func Fetched(s *solve.Step) bool {
	kind := Kind(s)
	return kind == "git" || kind == "http"
}
