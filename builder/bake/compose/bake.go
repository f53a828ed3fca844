package compose

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/consts"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"

	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/bake/compose/lazyschema"
)

// Language reads Compose files as docker buildx bake does. It implements bake.Language.
//
// Each service with a build section is a target, also if its profile is not enabled;
// the group default has all of them. Of a service only image, build, environment and
// env_file have a meaning; mistakes in its other attributes are no errors.
type Language struct{}

// Accepts reports whether a file has a name in .yml or .yaml, or is a valid Compose
// file. An error of a file with such a name is left to Read, which has all files.
func (Language) Accepts(f bake.File, o bake.ReadOptions) (bool, error) {
	switch strings.ToLower(filepath.Ext(f.Name)) {
	case ".yml", ".yaml":
		return true, nil
	case ".json", ".hcl":
		return false, nil
	}
	s, err := newBakeSources([]bake.File{f}, o)
	if err != nil {
		return false, err
	}
	err = collectWarnings(new([]string), func() error { return s.check(s) })
	return err == nil, err
}

// Read evaluates files as one project and adds its services to a definition.
func (Language) Read(d *bake.Definition, files []bake.File, o bake.ReadOptions) error {
	s, err := newBakeSources(files, o)
	if err != nil {
		return err
	}
	var warnings []string
	p := newPlaces(s.ConfigFiles, ".")
	err = collectWarnings(&warnings, func() error {
		dict, err := s.filtered()
		if err == nil {
			var project *types.Project
			if project, err = s.bakeProject(dict); err == nil {
				return p.addTargets(d, project, o.FileRelative)
			}
		}
		return p.explain(context.Background(), err, s)
	})
	for _, w := range warnings {
		d.Warnings = append(d.Warnings, bake.Problem{Text: w})
	}
	if err == nil {
		d.Warnings = append(d.Warnings, p.unknownAttributes()...)
	}
	return err
}

// newBakeSources returns the sources of files with the variables of the environment, of
// .env in the working directory, and of flags.
func newBakeSources(files []bake.File, o bake.ReadOptions) (*sources, error) {
	env := types.Mapping{}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if value, ok := o.Lookup(name); ok {
			env[name] = value
		}
	}
	more, err := dotEnv(env)
	if err != nil {
		return nil, err
	}
	env.Merge(more)
	maps.Copy(env, o.Vars)
	s := &sources{ConfigDetails: types.ConfigDetails{Environment: env}, check: func(s *sources) error {
		dict, err := s.filtered()
		if err == nil {
			_, err = s.bakeProject(dict)
		}
		return err
	}}
	for _, f := range files {
		s.ConfigFiles = append(s.ConfigFiles, types.ConfigFile{Filename: f.Name, Content: f.Data})
	}
	s.options = []func(*loader.Options){func(l *loader.Options) {
		name := "bake"
		if v := env[consts.ComposeProjectName]; v != "" {
			name = v
		}
		l.SetProjectName(name, false)
		l.SkipNormalization, l.SkipValidation = true, true
		l.ResourceLoaders = append(l.ResourceLoaders, remoteRefuser{})
		if o.Remote {
			l.ResourceLoaders = append(l.ResourceLoaders, localRefuser{})
		}
	}}
	s.remote = o.Remote
	return s, nil
}

// dotEnv returns the variables of .env in the working directory.
func dotEnv(env types.Mapping) (map[string]string, error) {
	const name = ".env"
	text, err := os.ReadFile(name)
	if info, statErr := os.Stat(name); errors.Is(err, fs.ErrNotExist) || statErr == nil && info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	vars, err := dotenv.UnmarshalBytesWithLookup(text, env.Resolve)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return vars, nil
}

// filtered evaluates the files, leaves out the parts that bake does not use, and checks
// the rest against the schema.
func (s *sources) filtered() (map[string]any, error) {
	model, err := s.loadModel(context.Background())
	if err != nil {
		return nil, err
	}
	dict := map[string]any{}
	if v, ok := model["secrets"]; ok {
		dict["secrets"] = v
	}
	if services, ok := model["services"].(map[string]any); ok {
		kept := map[string]any{}
		for name, v := range services {
			switch service := v.(type) {
			case nil:
				kept[name] = map[string]any{}
			case map[string]any:
				kept[name] = onlyKeys(service, "image", "build", "environment", "env_file")
				if s.remote && service["env_file"] != nil {
					logrus.Warnf("services.%s.env_file is ignored: a definition from a URL reads no files of this machine", name)
					delete(kept[name].(map[string]any), "env_file")
				}
			}
		}
		dict["services"] = kept
	}
	if len(dict) == 0 {
		return nil, errors.New("empty compose file")
	}
	lazyschema.Init()
	return guarded(s, func() (map[string]any, error) { return dict, schema.Validate(dict) })
}

func onlyKeys(m map[string]any, keys ...string) map[string]any {
	kept := map[string]any{}
	for _, k := range keys {
		if v, ok := m[k]; ok {
			kept[k] = v
		}
	}
	return kept
}

// bakeProject returns the project of a filtered tree, with the services of all profiles.
func (s *sources) bakeProject(dict map[string]any) (*types.Project, error) {
	options := loader.ToOptions(&s.ConfigDetails, []func(*loader.Options){func(l *loader.Options) {
		l.SkipNormalization, l.Profiles = true, []string{"*"}
	}})
	return guarded(s, func() (*types.Project, error) { return loader.ModelToProject(dict, options, s.ConfigDetails) })
}

// addTargets adds the services of a project to a definition.
func (p *places) addTargets(d *bake.Definition, project *types.Project, fileRelative bool) error {
	if len(project.Services) == 0 {
		return nil
	}
	group := &bake.Group{Name: "default"}
	var problems bake.Problems
	for _, name := range slices.Sorted(maps.Keys(project.Services)) {
		service := project.Services[name]
		if service.Build == nil {
			continue
		}
		t, list := p.bakeTarget(project, service)
		problems = append(problems, list...)
		if fileRelative {
			t.Bases = p.bases(t)
		}
		group.Targets = append(group.Targets, t.Name)
		if same := d.Target(t.Name); same != nil {
			same.Merge(t)
		} else {
			d.Targets = append(d.Targets, t)
		}
	}
	if len(problems) > 0 {
		sortProblems(problems)
		return problems
	}
	d.Groups = slices.DeleteFunc(d.Groups, func(g *bake.Group) bool { return g.Name == group.Name })
	d.Groups = append(d.Groups, group)
	return nil
}

// bases returns the bases of contexts: the directory of the first file.
func (p *places) bases(t *bake.Target) (b bake.Bases) {
	if len(p.files) == 0 || p.files[0].name == "-" {
		return b
	}
	dir := filepath.Dir(p.files[0].name)
	b.Default = &dir
	if t.Context != nil {
		b.Context = &dir
	}
	b.Contexts = map[string]string{}
	for name := range t.Contexts {
		b.Contexts[name] = dir
	}
	return b
}

var targetName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// bakeName returns the name of the target of a service.
func bakeName(service string) string { return strings.ReplaceAll(service, ".", "_") }
