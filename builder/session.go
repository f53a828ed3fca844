// Package builder builds images from Dockerfiles.
//
// A [Session] holds the store, the registries and everything else that several builds
// share. [Session.Build] builds one or more [Target] values, which are plain data, in
// one graph of steps: it plans each target, solves the graph, and exports the images.
// Layers are compressed and pushed while later steps still run. Steps that targets
// share run once.
package builder

import (
	"context"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/limits"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/report"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer/store"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/taghistory"
)

// SessionOptions configure a [Session]. The zero value of each field but Store and
// Registry is a default.
type SessionOptions struct {
	Store     *store.Store
	Registry  *registry.Client
	Progress  *progress.Reporter
	Isolation sandbox.Isolation
	Stdin     io.Reader            // for a context or Dockerfile "-"
	Stdout    io.Writer            // for outputs to "-"
	Writers   map[string]io.Writer // for outputs that name one

	InputLimits   limits.Limits // of downloaded layers and files
	StepResources cgroup.Limits // of each RUN; not in cache keys
	StepTimeout   time.Duration // of each RUN; 0: none; not in cache keys
	ResolvConf    string        // content of /etc/resolv.conf in each RUN; "": this machine's; not in cache keys
	Jobs          int           // steps that run at once; 0: the number of processors
	KeepGoing     bool          // after a failure, finish the targets that do not need the failed step
	LinkTags      bool          // a FROM or --from of another target's tag means the image that this build makes
	MakersOf      MakersOf      // further targets; nil: there are none
	Now           time.Time     // zero: the time of NewSession

	History *taghistory.Recorder // records the images that pushed tags replace; may be nil

	Debugger worker.Debugger // halts the build at steps; nil: never
	Breaks   []Break         // where it halts besides failures

	Recorder *report.Recorder // of steps, inputs and reasons for cache misses; nil: none

	Secrets []secret.Source
	Agents  []sshagent.Source // ssh agents

	CacheFrom      []remote.Location // looked up for steps that the store does not have
	CacheTo        []CacheTo
	CacheMountFrom []remote.Location // initial content of cache mounts
	CacheMountTo   []CacheTo
}

// CacheTo is the destination of a cache export.
type CacheTo struct {
	remote.Location
	Inline bool // in the images themselves; then Location is empty
	Max    bool // export all steps, not only those of the images' layers
	Strict bool // fail the build if the export fails, rather than warn

	Targets []string // whose steps are exported; none: all
}

// isOf reports whether steps of a target are exported.
func (c *CacheTo) isOf(p *planned) bool {
	return len(c.Targets) == 0 || slices.Contains(c.Targets, p.Name)
}

// Session builds targets.
type Session struct {
	SessionOptions
	images  *images.Manager
	dirs    *input.Dirs
	unset   sync.Map // secrets whose missing variables the user knows
	fetched *input.Fetched
	own     *credentials // of targets without others
}

// NewSession returns a session. It reads the keys of the ssh agents. The caller must
// close the session.
func NewSession(o SessionOptions) (*Session, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Jobs <= 0 {
		o.Jobs = runtime.NumCPU()
	}
	s := &Session{SessionOptions: o}
	s.images = &images.Manager{Store: o.Store, Registry: o.Registry, Progress: o.Progress, Limits: o.InputLimits, Isolation: o.Isolation}
	s.dirs, s.fetched = &input.Dirs{}, input.NewFetched()
	var err error
	s.own, err = s.newCredentials(Credentials{Secrets: o.Secrets, Agents: o.Agents})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes idle connections.
func (s *Session) Close() { s.own.close() }

// OpenDefinition fetches the definition of an application from a git repository or a web
// server. The caller must close it.
func (s *Session) OpenDefinition(ctx context.Context, url string) (*input.Definition, error) {
	return s.own.sources.OpenDefinition(ctx, url)
}

// Checkout checks out a commit of a git repository into a directory of the store, which
// ends with the process.
func (s *Session) Checkout(ctx context.Context, r git.Request) (dir string, err error) {
	return s.own.sources.CheckoutDir(ctx, r)
}

// Download downloads a file from a web server, as a build context with this URL is. The
// file remains in the store for the next download.
func (s *Session) Download(ctx context.Context, url string) (io.ReadSeekCloser, error) {
	return s.own.sources.Download(ctx, url)
}
