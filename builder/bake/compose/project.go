// Package compose reads Compose files and turns the build sections of their services
// into targets.
//
// It has two ways to do so. [Load] and [Project] work as docker compose build does, and
// [Read] as docker buildx bake does, whose targets have other names, paths and tags.
// The files themselves are evaluated by compose-go, docker compose's own library.
package compose

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/compose-spec/compose-go/v2/utils"
	"github.com/sirupsen/logrus"

	"github.com/cairn-build/cairn/builder/bake/compose/lazyschema"
)

// Project is an evaluated set of Compose files.
type Project struct {
	Warnings []string // of compose-go, such as a variable that is not set
	model    *types.Project
	places   *places

	separator string   // between the names of project and service
	unpushed  []string // services without the name of an image
}

// Load evaluates the files that the options select. Errors have the file, line and
// column of each mistake.
func Load(ctx context.Context, o Options) (*Project, error) {
	p := &Project{}
	err := collectWarnings(&p.Warnings, func() error {
		s, err := o.find(ctx)
		if err != nil {
			return err
		}
		p.places, p.separator = newPlaces(s.ConfigFiles, s.WorkingDir), "-"
		if o.Compatibility || utils.StringToBool(s.Environment["COMPOSE_COMPATIBILITY"]) {
			p.separator = "_"
		}
		lazyschema.Init()
		p.model, err = guarded(s, func() (*types.Project, error) { return loader.LoadWithContext(ctx, s.ConfigDetails, s.options...) })
		return p.places.explain(ctx, err, s)
	})
	if err != nil {
		return nil, err
	}
	for _, f := range p.places.files {
		p.model.ComposeFiles = append(p.model.ComposeFiles, f.name)
	}
	return p, nil
}

// LoadModel evaluates the files that the options select as far as NoInterpolate
// permits, and returns the tree of YAML values.
func LoadModel(ctx context.Context, o Options) (model map[string]any, warnings []string, err error) {
	err = collectWarnings(&warnings, func() error {
		s, err := o.find(ctx)
		if err != nil {
			return err
		}
		model, err = s.loadModel(ctx)
		return newPlaces(s.ConfigFiles, s.WorkingDir).explain(ctx, err, s)
	})
	return model, warnings, err
}

// logging is held while compose-go's warnings, which it writes to the standard logger
// of logrus, are collected.
var logging sync.Mutex

// collectWarnings calls f and appends each different warning that it logs to list.
func collectWarnings(list *[]string, f func() error) error {
	logging.Lock()
	defer logging.Unlock()
	log := logrus.StandardLogger()
	out, hooks := log.Out, log.ReplaceHooks(logrus.LevelHooks{})
	defer func() { log.SetOutput(out); log.ReplaceHooks(hooks) }()
	log.SetOutput(io.Discard)
	log.AddHook(warningHook{list})
	return f()
}

// warningHook appends warnings to a list.
type warningHook struct{ list *[]string }

func (warningHook) Levels() []logrus.Level {
	return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel}
}

func (h warningHook) Fire(e *logrus.Entry) error {
	text := strings.TrimSpace(e.Message)
	if !slices.Contains(*h.list, text) {
		*h.list = append(*h.list, text)
	}
	return nil
}

// Name returns the name of the project.
func (p *Project) Name() string { return p.model.Name }

// Files returns the paths of the files, without standard input.
func (p *Project) Files() (names []string) {
	for _, f := range p.places.files {
		if f.name != "-" {
			names = append(names, f.name)
		}
	}
	return names
}

// Services returns the names of the enabled services, sorted.
func (p *Project) Services() []string { return p.model.ServiceNames() }

// Profiles returns the profiles of all services, sorted.
func (p *Project) Profiles() []string {
	set := map[string]bool{}
	for _, s := range p.model.AllServices() {
		for _, name := range s.Profiles {
			set[name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
