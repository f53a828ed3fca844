package command

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/bake"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/option"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
	"github.com/cairn-build/cairn/builder/secret"
	"github.com/cairn-build/cairn/builder/sshagent"
)

// convert converts a target. It returns all problems of its attributes.
func (a *application) convert(name string, t *bake.Target) (*appTarget, bake.Problems) {
	m := &appTarget{buildCommand: &buildCommand{Program: a.Program}, definition: t, name: name}
	m.registries.limits = a.registries.limits
	o := &m.options
	o.Name, o.Args, o.Labels = name, values(t.Args), values(t.Labels)
	o.Stage, o.NoCacheFilter = text(t.Stage), t.NoCacheFilter
	o.Pull, o.NoCache = t.Pull != nil && *t.Pull, t.NoCache != nil && *t.NoCache
	var problems bake.Problems
	for _, step := range []struct {
		attribute string
		set       func(*bake.Target) error
	}{
		{"args", func(t *bake.Target) error { return checkKeys("argument", t.Args) }},
		{"labels", func(t *bake.Target) error { return checkKeys("label", t.Labels) }},
		{"context", m.setContext}, {"contexts", m.setContexts}, {"tags", m.setTags}, {"platforms", m.setPlatforms},
		{"secret", m.setCredentials}, {"annotations", m.setAnnotations}, {"attest", checkAttest},
		{"cache-from", m.setCacheFrom}, {"cache-to", m.setCacheTo}, {"output", m.addOutputs},
		{"network", a.setNetwork(m)}, {"entitlements", a.setEntitlements(m)}, {"extra-hosts", m.setHosts},
		{"shm-size", m.setShmSize}, {"ulimits", m.setUlimits}, {"resources", m.setResources}, {"call", m.setCall},
	} {
		if err := step.set(t); err != nil {
			problems = append(problems, m.problem(step.attribute, err))
		}
	}
	if m.engine != "" {
		m.engine = a.engine
	}
	if m.call.Method != "" { // no results
		m.outputs, m.engine, o.CacheTo = nil, "", nil
	}
	m.addCredentials(a.url)
	return m, problems
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// checkKeys returns an error for an empty name.
func checkKeys(kind string, m map[string]*string) error {
	if _, ok := m[""]; ok {
		return fmt.Errorf("the name of a build %s is empty", kind)
	}
	return nil
}

// values returns the entries of a map that have a value.
func values(m map[string]*string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// setContext sets the context and the Dockerfile, which is relative to it.
func (m *appTarget) setContext(t *bake.Target) error {
	o := &m.options
	o.Context, o.Inline = text(t.Context), text(t.DockerfileInline)
	if t.Remote.Context != "" {
		o.Context = t.Remote.Context
	}
	if o.Context == "" {
		o.Context = "."
	}
	file := text(t.Dockerfile)
	local, inWorkingDir := strings.CutPrefix(file, bake.WorkingDir)
	switch {
	case o.Inline != "" || !isDir(o.Context) && file == "Dockerfile":
	case file == "" || file == "Dockerfile":
		path := filepath.Join(o.Context, "Dockerfile")
		if _, err := os.Stat(path); err == nil { // or else there may be one of podman's name
			o.Dockerfile = path
		}
	case inWorkingDir:
		o.Dockerfile = local
	case filepath.IsAbs(file) || !isDir(o.Context):
		o.Dockerfile = file
	default:
		o.Dockerfile = filepath.Join(o.Context, file)
	}
	return nil
}

func (m *appTarget) setContexts(t *bake.Target) error {
	for _, name := range slices.Sorted(maps.Keys(t.Contexts)) {
		value := strings.TrimPrefix(t.Contexts[name], bake.WorkingDir)
		if address := t.Remote.Contexts[name]; address != "" {
			value = address
		}
		if value == "" {
			continue
		}
		if _, err := plan.ContextName(name); err != nil {
			return err
		}
		m.options.Contexts = append(m.options.Contexts, input.Named{Name: name, Value: value})
	}
	return nil
}

func (m *appTarget) setTags(t *bake.Target) error {
	for _, tag := range t.Tags {
		if err := option.CheckReference(tag); err != nil {
			return fmt.Errorf("tag %q: %w", tag, err)
		}
		m.options.Tags = append(m.options.Tags, tag)
	}
	return nil
}

func (m *appTarget) setPlatforms(t *bake.Target) (err error) {
	for _, p := range t.Platforms {
		if m.options.Platforms, err = option.AddPlatforms(m.options.Platforms, p); err != nil {
			return fmt.Errorf("platform %q: %w", p, err)
		}
	}
	return setDefaultPlatforms(&m.options.Platforms)
}

func (m *appTarget) setCredentials(t *bake.Target) error {
	c := &builder.Credentials{}
	for _, s := range t.Secrets {
		c.Secrets = append(c.Secrets, secret.Source{ID: s.ID, File: s.File, Env: s.Env})
	}
	for _, s := range t.SSH {
		c.Agents = append(c.Agents, sshagent.Source{ID: s.ID, Paths: s.Paths})
	}
	if len(c.Secrets)+len(c.Agents) > 0 {
		m.options.Target.Credentials = c
	}
	return nil
}

func (m *appTarget) setAnnotations(t *bake.Target) error {
	for _, text := range t.Annotations {
		list, err := option.ParseAnnotation(text)
		if err != nil {
			return fmt.Errorf("annotation %q: %w", text, err)
		}
		m.annotations = append(m.annotations, list...)
	}
	return nil
}

// checkAttest rejects attestations, as cairn build does.
func checkAttest(t *bake.Target) error {
	for _, attest := range t.Attest {
		if !attest.Disabled {
			return fmt.Errorf("attestations are not supported yet: leave out type=%s, or set disabled=true", attest.Type)
		}
	}
	return nil
}

func (m *appTarget) setCacheFrom(t *bake.Target) error {
	for _, c := range t.CacheFrom {
		all, err := m.cache(c, option.ParseCacheFrom)
		if err != nil {
			return err
		}
		m.options.CacheFrom = append(m.options.CacheFrom, all[0].Location)
	}
	return nil
}

func (m *appTarget) setCacheTo(t *bake.Target) error {
	for _, c := range t.CacheTo {
		all, err := m.cache(c, option.ParseCacheTo)
		if err != nil {
			return err
		}
		m.options.CacheTo = append(m.options.CacheTo, all...)
	}
	return nil
}

func (m *appTarget) cache(c *bake.Cache, parse func(string) (option.Cache, error)) ([]builder.CacheTo, error) {
	parsed, err := parse(c.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", option.RedactCache(c.String()), err)
	}
	m.caches = append(m.caches, parsed)
	return builderCaches(parsed, &m.registries.limits.Patience)
}

// addOutputs adds the outputs. One of type docker without a file is for an engine, and
// a target that others only use as a context has none.
func (m *appTarget) addOutputs(t *bake.Target) error {
	if t.Linked {
		m.outputs = []option.Output{{Type: "cacheonly"}}
		return nil
	}
	for _, out := range t.Outputs {
		if out.Type == "docker" && out.Destination == "" {
			m.engine = "auto"
			continue
		}
		parsed, err := parseOutput(out.String())
		if err != nil {
			return fmt.Errorf("%s: %w", out, err)
		}
		m.outputs = append(m.outputs, parsed)
	}
	return nil
}

// setNetwork returns a function that sets the network. That of the host is a privilege.
func (a *application) setNetwork(m *appTarget) func(*bake.Target) error {
	return func(t *bake.Target) error {
		m.options.Network = text(t.Network)
		switch m.options.Network {
		case "host":
			return a.allowed(plan.AllowHostNetwork)
		case "", "default", "none":
			return nil
		}
		return fmt.Errorf("network %q: want default, none or host", m.options.Network)
	}
}

// setEntitlements returns a function that sets the privileges that RUNs may request.
func (a *application) setEntitlements(m *appTarget) func(*bake.Target) error {
	return func(t *bake.Target) error {
		for _, e := range t.Entitlements {
			if slices.Contains(harmlessEntitlements(), e) {
				continue
			}
			list, err := option.ParseAllow(e)
			if err != nil {
				return err
			}
			for _, name := range list {
				if err := a.allowed(name); err != nil {
					return err
				}
			}
			m.options.Allow = append(m.options.Allow, list...)
		}
		return nil
	}
}

func (a *application) allowed(name string) error {
	if slices.Contains(a.allow, name) {
		return nil
	}
	return fmt.Errorf("it asks for %s: pass --allow %s if you trust the target with it", name, name)
}

func (m *appTarget) setHosts(t *bake.Target) error {
	for _, host := range slices.Sorted(maps.Keys(t.ExtraHosts)) {
		for _, ip := range strings.Split(text(t.ExtraHosts[host]), ",") {
			entry, err := option.ParseHost(host + ":" + strings.TrimSpace(ip))
			if err != nil {
				return fmt.Errorf("%s: %w", host, err)
			}
			m.options.AddHosts = append(m.options.AddHosts, entry)
		}
	}
	return nil
}

func (m *appTarget) setShmSize(t *bake.Target) (err error) {
	if size := text(t.ShmSize); size != "" && size != "0" {
		m.options.ShmSize, err = option.ParseMemory(strings.ReplaceAll(size, "iB", ""))
	}
	return err
}

func (m *appTarget) setUlimits(t *bake.Target) error {
	for _, u := range t.Ulimits {
		limit, err := option.ParseUlimit(u)
		if err != nil {
			return fmt.Errorf("%s: %w", u, err)
		}
		m.options.Ulimits = append(m.options.Ulimits, limit) // the last of a name counts
	}
	return nil
}

// setResources sets the limits of the target's RUNs.
func (m *appTarget) setResources(t *bake.Target) (err error) {
	r := t.Resources
	if r == nil {
		return nil
	}
	if text(r.CPUSetCPUs)+text(r.CPUSetMems) != "" {
		return errors.New("cpuset-cpus and cpuset-mems are not supported: leave them out, or limit cpu-quota")
	}
	var l cgroup.Limits
	if s := text(r.Memory); s != "" {
		if l.Memory, err = option.ParseMemory(s); err == nil && l.Memory < minMemory {
			err = errors.New("want 6m or more: a step cannot start with less")
		}
		if err != nil {
			return fmt.Errorf("memory %s: %w", s, err)
		}
	}
	switch s := text(r.MemorySwap); s {
	case "":
	case "-1":
		l.Swap = -1
	default:
		if l.Swap, err = option.ParseMemory(s); err != nil {
			return fmt.Errorf("memory-swap %s: %w", s, err)
		}
	}
	for _, n := range []struct{ to, from *int64 }{{&l.Shares, r.CPUShares}, {&l.Period, r.CPUPeriod}, {&l.Quota, r.CPUQuota}} {
		if n.from != nil {
			*n.to = *n.from
		}
	}
	m.options.Resources = &l
	return l.Check()
}

func (m *appTarget) setCall(t *bake.Target) (err error) {
	if text(t.Call) != "" {
		m.call, err = option.ParseCall(*t.Call)
	}
	return err
}
