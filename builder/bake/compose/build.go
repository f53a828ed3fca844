package compose

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/cairn-build/cairn/builder/bake"
)

// BuildOptions are the flags of docker compose build that change targets.
type BuildOptions struct {
	Services         []string // none: the enabled services
	WithDependencies bool     // also those that the services depend on

	Args       []string // NAME=VALUE, or NAME for a variable
	NoCache    bool
	Pull       bool
	Load       bool   // into the engine
	Push       bool   // the services with an image name
	Memory     string // limit of each RUN
	SSH        []string
	SBOM       string
	Provenance string
	Check      bool // evaluate the Dockerfiles only
}

// Targets returns the targets of all services with a build section, and the group
// default with those to build. The names of the services are docker compose's for bake:
// dots become underscores.
func (p *Project) Targets(o BuildOptions) (*bake.Definition, error) {
	fail := func(err error) (*bake.Definition, error) {
		return nil, p.places.explain(context.Background(), err, nil)
	}
	if err := p.applyPlatforms(); err != nil {
		return nil, err
	}
	model, wanted, err := p.wanted(o)
	if err != nil {
		return fail(err)
	}
	services := maps.Clone(model.Services)
	for _, others := range []types.Services{p.model.Services, p.model.DisabledServices} {
		for name, service := range others {
			if _, ok := services[name]; !ok {
				services[name] = service
			}
		}
	}
	names := targetNames(slices.Sorted(maps.Keys(model.Services)), slices.Sorted(maps.Keys(services)))
	d, group := &bake.Definition{Deferred: map[string]bake.Problems{}}, &bake.Group{Name: "default"}
	var problems bake.Problems
	for _, name := range slices.Sorted(maps.Keys(services)) {
		service := services[name]
		if service.Build == nil {
			continue
		}
		t, list := p.buildTarget(model, service, names, o)
		if _, ok := model.Services[name]; ok {
			problems = append(problems, list...)
		} else {
			d.Deferred[t.Name] = list
		}
		d.Targets = append(d.Targets, t)
		if slices.Contains(wanted, name) {
			group.Targets = append(group.Targets, t.Name)
		}
	}
	if len(problems) > 0 {
		sortProblems(problems)
		return nil, problems
	}
	d.Groups = []*bake.Group{group}
	for _, name := range p.unpushed {
		if slices.Contains(wanted, name) {
			d.Warnings = append(d.Warnings, bake.Problem{Position: p.places.find("services." + name).position(), Text: fmt.Sprintf("service %q is not pushed: it names no image", name)})
		}
	}
	return d, nil
}

// wanted returns the project with the services of the build, and the names of those to
// build.
func (p *Project) wanted(o BuildOptions) (*types.Project, []string, error) {
	names := o.Services
	if len(names) == 0 {
		names = p.model.ServiceNames()
	}
	names = p.withContexts(names)
	model, err := p.model.WithServicesEnabled(names...)
	if err == nil && len(names) > 0 {
		model, err = model.WithSelectedServices(names)
	}
	if err != nil {
		return nil, nil, err
	}
	policy := types.IgnoreDependencies
	if o.WithDependencies {
		policy = types.IncludeDependencies
	}
	var wanted []string
	err = model.ForEachService(names, func(name string, s *types.ServiceConfig) error {
		if s.Build != nil {
			wanted = append(wanted, name)
		}
		return nil
	}, policy)
	return model, wanted, err
}

// withContexts returns the names with those of services that they use as contexts.
func (p *Project) withContexts(names []string) []string {
	all := slices.Clone(names)
	for i := 0; i < len(all); i++ {
		s, ok := p.model.Services[all[i]]
		if !ok {
			s = p.model.DisabledServices[all[i]]
		}
		if s.Build == nil {
			continue
		}
		for _, value := range s.Build.AdditionalContexts {
			if name, ok := strings.CutPrefix(value, types.ServicePrefix); ok && !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}

// applyPlatforms sets the platforms of builds from the platforms of their services.
func (p *Project) applyPlatforms() error {
	var problems bake.Problems
	byDefault := p.model.Environment["DOCKER_DEFAULT_PLATFORM"]
	for _, services := range []types.Services{p.model.Services, p.model.DisabledServices} {
		for _, name := range slices.Sorted(maps.Keys(services)) {
			s := services[name]
			if s.Build == nil {
				continue
			}
			origin := "platform"
			if s.Platform == "" {
				s.Platform, origin = byDefault, "$DOCKER_DEFAULT_PLATFORM"
			}
			switch {
			case s.Platform == "":
			case len(s.Build.Platforms) == 0:
				s.Build.Platforms = []string{s.Platform}
			case !slices.Contains(s.Build.Platforms, s.Platform):
				problems = append(problems, bake.Problem{
					Position: p.places.find("services." + name + ".build.platforms").position(),
					Text:     fmt.Sprintf("service %q: build.platforms does not have %s, the value of %s: add it", name, s.Platform, origin),
				})
			}
			services[name] = s
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// targetNames returns the name of the target of each service. Those that are built come
// first, so that other services do not change their names.
func targetNames(built, all []string) map[string]string {
	names, used := map[string]string{}, map[string]bool{}
	for _, service := range slices.Concat(built, all) {
		if names[service] != "" {
			continue
		}
		name := bakeName(service)
		for used[name] {
			name += "_"
		}
		names[service], used[name] = name, true
	}
	return names
}

// buildTarget returns the target of a service under docker compose's rules.
func (p *Project) buildTarget(model *types.Project, service types.ServiceConfig, names map[string]string, o BuildOptions) (*bake.Target, bake.Problems) {
	b := service.Build
	c := &converter{places: p.places, service: service.Name, target: &bake.Target{Name: names[service.Name]}}
	t := c.target
	c.setPositions()
	c.common(b)
	if b.ShmSize > 0 {
		t.ShmSize = new(strconv.FormatInt(int64(b.ShmSize), 10))
	}
	if b.DockerfileInline != "" {
		t.DockerfileInline = new(b.DockerfileInline)
	} else if b.Dockerfile != "" {
		t.Dockerfile = new(dockerfilePath(b.Context, b.Dockerfile))
	}
	if len(b.AdditionalContexts) > 0 {
		t.Contexts = map[string]string{}
	}
	for name, value := range b.AdditionalContexts {
		if s, ok := strings.CutPrefix(value, types.ServicePrefix); ok {
			value = "target:" + names[s]
		}
		t.Contexts[name] = value
	}
	t.Tags = append(slices.Clone([]string(b.Tags)), p.image(service))
	t.NoCacheFilter = b.NoCacheFilter
	t.Labels = map[string]*string{
		"com.docker.compose.project": new(model.Name),
		"com.docker.compose.service": new(service.Name),
	}
	for k, v := range b.Labels {
		if _, ok := t.Labels[k]; !ok {
			t.Labels[k] = &v
		}
	}
	args := types.MappingWithEquals{}.OverrideBy(b.Args).OverrideBy(types.NewMappingWithEquals(o.Args))
	t.Args = resolved(args, func(name string) (string, bool) {
		v, ok := model.Environment[name]
		return v, ok
	})
	c.secrets(model, b.Secrets)
	c.flags(b, o)
	if b.Isolation != "" && b.Isolation != "default" {
		c.fail("isolation", fmt.Errorf("%q is for Windows: remove it", b.Isolation))
	}
	if o.Load {
		t.Outputs = append(t.Outputs, &bake.Output{Type: "docker"})
	}
	switch {
	case o.Push && service.Image != "":
		t.Outputs = append(t.Outputs, &bake.Output{Type: "registry"})
	case o.Push && !o.Check:
		p.unpushed = append(p.unpushed, service.Name)
	}
	return t, c.problems
}

// flags applies the options, and the keys that they add to.
func (c *converter) flags(b *types.BuildConfig, o BuildOptions) {
	t := c.target
	for _, text := range o.SSH {
		t.SSH = append(t.SSH, bake.ParseSSH(text))
	}
	if o.Pull || b.Pull {
		t.Pull = new(true)
	}
	if o.NoCache || b.NoCache {
		t.NoCache = new(true)
	}
	if o.Memory != "" {
		t.Resources = &bake.Resources{Memory: &o.Memory}
	}
	if o.Check {
		t.Call = new("lint")
	}
	slices.SortStableFunc(t.SSH, compareSSH)
	t.Entitlements = slices.Clone(b.Entitlements)
	if b.Privileged && !slices.Contains(t.Entitlements, "security.insecure") {
		t.Entitlements = append(t.Entitlements, "security.insecure")
	}
	for kind, value := range map[string]string{"sbom": o.SBOM, "provenance": o.Provenance} {
		if value != "" {
			t.Attest = slices.DeleteFunc(t.Attest, func(a *bake.Attest) bool { return a != nil && a.Type == kind })
			c.attest(kind, value)
		}
	}
	slices.SortFunc(t.Attest, func(a, b *bake.Attest) int { return strings.Compare(b.Type, a.Type) })
}

// secrets adds the secrets of a build.
func (c *converter) secrets(model *types.Project, refs []types.ServiceSecretConfig) {
	for _, ref := range refs {
		secret := model.Secrets[ref.Source]
		id := ref.Target
		if id == "" {
			id = ref.Source
		}
		switch {
		case secret.Environment != "":
			c.target.Secrets = append(c.target.Secrets, &bake.Secret{ID: id, Env: secret.Environment})
		case secret.File != "":
			c.target.Secrets = append(c.target.Secrets, &bake.Secret{ID: id, File: secret.File})
		case bool(secret.External):
			c.fail("secrets", fmt.Errorf("unsupported external secret %s: give its file or environment", ref.Source))
		default:
			c.fail("secrets", fmt.Errorf("secret %s has neither a file nor a variable: give its file or environment", ref.Source))
		}
	}
}

// dockerfilePath returns the path of a Dockerfile, which is relative to a local context.
func dockerfilePath(dir, name string) string {
	if isRemote(dir) || filepath.IsAbs(name) {
		return name
	}
	name = filepath.Join(dir, name)
	if real, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil {
		return filepath.Join(real, filepath.Base(name))
	}
	return name
}

// isRemote reports whether a context is a URL or a repository.
func isRemote(name string) bool {
	u, err := url.Parse(name)
	return err == nil && u.Scheme != "" && u.Host != "" || strings.HasPrefix(name, "git@") || strings.HasPrefix(name, "github.com/")
}

// Lookup returns a variable of the project: of the environment, or of a file of
// variables.
func (p *Project) Lookup(name string) (string, bool) {
	v, ok := p.model.Environment[name]
	return v, ok
}

// Pushable returns the names of the images of services with a build section and the
// name of an image, and why others are skipped. Without names it looks at the enabled
// services.
func (p *Project) Pushable(names []string, withDependencies bool) (images, skipped []string, err error) {
	model, err := p.model.WithServicesEnabled(names...)
	if err == nil {
		policy := types.IgnoreDependencies
		if withDependencies {
			policy = types.IncludeDependencies
		}
		model, err = model.WithSelectedServices(names, policy)
	}
	if err != nil {
		return nil, nil, p.places.explain(context.Background(), err, nil)
	}
	for _, name := range model.ServiceNames() {
		s := model.Services[name]
		switch {
		case s.Build == nil:
			skipped = append(skipped, "service "+name+" is not pushed: it has no build section")
			continue
		case s.Image == "":
			skipped = append(skipped, "service "+name+" is not pushed: it names no image")
			continue
		}
		for _, image := range append([]string{s.Image}, s.Build.Tags...) {
			if !slices.Contains(images, image) {
				images = append(images, image)
			}
		}
	}
	return images, skipped, nil
}
