package compose

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"

	"github.com/cairn-build/cairn/builder/bake"
)

// converter turns a build section into a target and collects its problems.
type converter struct {
	places   *places
	service  string
	target   *bake.Target
	problems bake.Problems
}

// attributes has the attribute of a target for each key of a build section that has
// another name.
func attributes() map[string]string {
	return map[string]string{
		"additional_contexts": "contexts", "dockerfile_inline": "dockerfile-inline", "cache_from": "cache-from", "cache_to": "cache-to",
		"no_cache": "no-cache", "no_cache_filter": "no-cache-filter", "shm_size": "shm-size", "extra_hosts": "extra-hosts", "secrets": "secret",
		"provenance": "attest", "sbom": "attest", "privileged": "entitlements",
	}
}

// position returns the place of a key of the build section.
func (c *converter) position(key string) bake.Position {
	return c.places.find(strings.TrimSuffix("services."+c.service+".build."+key, ".")).position()
}

// fail records a problem of a key of the build section.
func (c *converter) fail(key string, err error) {
	if err != nil {
		c.problems = append(c.problems, bake.Problem{
			Position: c.position(key), Text: fmt.Sprintf("service %q: %s: %v", c.service, key, err),
		})
	}
}

// setPositions sets the places of all attributes.
func (c *converter) setPositions() {
	c.target.Positions = map[string]bake.Position{"": c.places.find("services." + c.service).position()}
	other := attributes()
	for _, key := range knownKeys("services.x.build") {
		path := "services." + c.service + ".build." + key
		if f := c.places.find(path); f.key != nil && f.key.Value == key {
			c.target.Positions[cmp.Or(other[key], key)] = f.position()
		}
	}
	if _, ok := c.target.Positions["tags"]; !ok {
		if f := c.places.find("services." + c.service + ".image"); f.key != nil && f.key.Value == "image" {
			c.target.Positions["tags"] = f.position()
		}
	}
}

// common converts the keys that docker compose and buildx treat alike.
func (c *converter) common(b *types.BuildConfig) {
	t := c.target
	t.Context, t.Stage, t.Network = optional(b.Context), optional(b.Target), optional(b.Network)
	t.CacheFrom, t.CacheTo = c.caches("cache_from", b.CacheFrom), c.caches("cache_to", b.CacheTo)
	t.Platforms = b.Platforms
	for _, key := range b.SSH {
		agent := &bake.SSH{ID: key.ID}
		if key.Path != "" {
			agent.Paths = []string{key.Path}
		}
		t.SSH = append(t.SSH, agent)
	}
	if b.ShmSize > 0 {
		t.ShmSize = new(units.BytesSize(float64(b.ShmSize)))
	}
	t.ExtraHosts = map[string]*string{}
	for host, list := range b.ExtraHosts {
		t.ExtraHosts[host] = new(strings.Join(list, ","))
	}
	for _, name := range slices.Sorted(maps.Keys(b.Ulimits)) {
		limit := b.Ulimits[name]
		soft, hard := limit.Soft, limit.Hard
		if limit.Single != 0 {
			soft, hard = limit.Single, limit.Single
		}
		parsed, err := units.ParseUlimit(fmt.Sprintf("%s=%d:%d", name, soft, hard))
		if err != nil {
			c.fail("ulimits", err)
			continue
		}
		t.Ulimits = append(t.Ulimits, parsed.String())
	}
	c.attest("sbom", b.SBOM)
	c.attest("provenance", b.Provenance)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (c *converter) caches(key string, list []string) (caches []*bake.Cache) {
	for _, text := range list {
		more, err := bake.ParseCaches(text)
		c.fail(key, err)
		caches = append(caches, more...)
	}
	return caches
}

func (c *converter) attest(kind, value string) {
	if value == "" {
		return
	}
	text := "type=" + kind + "," + value
	if on, err := strconv.ParseBool(value); err == nil {
		text = fmt.Sprintf("type=%s,disabled=%t", kind, !on)
	}
	a, err := bake.ParseAttest(text)
	c.fail(kind, err)
	c.target.Attest = append(c.target.Attest, a)
}

// bakeTarget returns the target of a service under buildx bake's rules.
func (p *places) bakeTarget(project *types.Project, service types.ServiceConfig) (*bake.Target, bake.Problems) {
	b := service.Build
	c := &converter{places: p, service: service.Name, target: &bake.Target{Name: bakeName(service.Name)}}
	t := c.target
	if !targetName.MatchString(t.Name) {
		c.fail("", fmt.Errorf("the name %q of a target may only have letters, digits, _ and -", t.Name))
	}
	c.setPositions()
	c.common(b)
	t.Dockerfile, t.DockerfileInline = optional(b.Dockerfile), optional(b.DockerfileInline)
	t.Contexts = bakeContexts(b.AdditionalContexts)
	slices.SortFunc(t.SSH, compareSSH)
	for _, ref := range b.Secrets {
		secret := project.Secrets[ref.Source]
		if secret.External {
			c.fail("secrets", fmt.Errorf("unsupported external secret %s", ref.Source))
		}
		t.Secrets = append(t.Secrets, &bake.Secret{ID: ref.Source, File: secret.File, Env: secret.Environment})
	}
	t.Labels = map[string]*string{}
	for k, v := range b.Labels {
		t.Labels[k] = &v
	}
	t.Args = resolved(b.Args, func(name string) (string, bool) {
		if v, ok := service.Environment[name]; ok && v != nil {
			return *v, true
		}
		v, ok := project.Environment[name]
		return v, ok
	})
	if b.NoCache {
		t.NoCache = &b.NoCache
	}
	if b.Pull {
		t.Pull = &b.Pull
	}
	t.Tags = b.Tags
	c.extend(b.Extensions["x-bake"])
	if len(t.Tags) == 0 && service.Image != "" {
		t.Tags = []string{service.Image}
	}
	return t, c.problems
}

// resolved returns the build arguments with a value. Those without one have that of a
// variable.
func resolved(args types.MappingWithEquals, lookup func(string) (string, bool)) map[string]*string {
	if len(args) == 0 {
		return nil
	}
	set := map[string]*string{}
	for name, value := range args {
		if value == nil {
			if v, ok := lookup(name); ok {
				value = &v
			}
		}
		if value != nil {
			set[name] = value
		}
	}
	return set
}

// bakeContexts returns additional contexts with the names of targets.
func bakeContexts(contexts map[string]string) map[string]string {
	if contexts == nil {
		return nil
	}
	out := map[string]string{}
	for name, value := range contexts {
		for _, prefix := range []string{types.ServicePrefix, "target:"} {
			if service, ok := strings.CutPrefix(value, prefix); ok {
				value = "target:" + bakeName(service)
				break
			}
		}
		out[name] = value
	}
	return out
}

func compareSSH(a, b *bake.SSH) int {
	return cmp.Or(strings.Compare(a.ID, b.ID), slices.Compare(a.Paths, b.Paths))
}

// extend adds the attributes of x-bake.
func (c *converter) extend(ext any) {
	if ext == nil {
		return
	}
	t := c.target
	x, ok := ext.(map[string]any)
	if !ok {
		c.fail("x-bake", errors.New("want a mapping"))
		return
	}
	list := func(key string) []string { return c.list(key, x[key]) }
	t.Tags = append(slices.Clone(t.Tags), list("tags")...)
	t.CacheFrom = append(t.CacheFrom, c.caches("x-bake.cache-from", list("cache-from"))...)
	t.CacheTo = append(t.CacheTo, c.caches("x-bake.cache-to", list("cache-to"))...)
	t.Platforms = append(slices.Clone(t.Platforms), list("platforms")...)
	t.NoCacheFilter = append(t.NoCacheFilter, list("no-cache-filter")...)
	for _, text := range list("secret") {
		s, err := bake.ParseSecret(text)
		c.fail("x-bake.secret", err)
		t.Secrets = append(t.Secrets, s)
	}
	if agents := list("ssh"); len(agents) > 0 {
		for _, text := range agents {
			t.SSH = append(t.SSH, bake.ParseSSH(text))
		}
		slices.SortFunc(t.SSH, compareSSH)
	}
	for _, text := range list("output") {
		o, err := bake.ParseOutput(text)
		c.fail("x-bake.output", err)
		t.Outputs = append(t.Outputs, o)
	}
	c.extendBool(&t.Pull, "pull", x["pull"])
	c.extendBool(&t.NoCache, "no-cache", x["no-cache"])
	contexts, _ := x["contexts"].(map[string]any)
	if x["contexts"] != nil && contexts == nil {
		c.fail("x-bake.contexts", errors.New("want a mapping"))
	}
	for name, value := range contexts {
		if t.Contexts == nil {
			t.Contexts = map[string]string{}
		}
		if _, ok := t.Contexts[name]; !ok {
			maps.Copy(t.Contexts, bakeContexts(map[string]string{name: fmt.Sprint(value)}))
		}
	}
}

// list returns a list of strings, or the words of a string.
func (c *converter) list(key string, value any) (list []string) {
	switch v := value.(type) {
	case nil:
	case []any:
		for _, item := range v {
			switch item.(type) {
			case map[string]any, []any:
				c.fail("x-bake."+key, errors.New("want a list of strings"))
			}
			if s := scalar(item); s != "" {
				list = append(list, s)
			}
		}
	case map[string]any:
		c.fail("x-bake."+key, errors.New("want a list or a string"))
	default:
		list = strings.Fields(scalar(v))
	}
	return list
}

func scalar(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (c *converter) extendBool(to **bool, key string, value any) {
	switch v := value.(type) {
	case nil:
	case bool:
		*to = &v
	case string:
		on, err := strconv.ParseBool(v)
		if err != nil {
			c.fail("x-bake."+key, errors.New("want true or false"))
		}
		*to = &on
	default:
		c.fail("x-bake."+key, errors.New("want true or false"))
	}
}
