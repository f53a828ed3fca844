package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// Make plans a build.
func Make(ctx context.Context, in Input) (*Plan, error) {
	p := newPlanner(in)
	target, err := p.walk(ctx)
	if err != nil {
		return nil, err
	}
	return p.plan(target)
}

// walk plans all instructions of the needed stages and returns the target.
func (p *planner) walk(ctx context.Context) (*stage, error) {
	if err := p.readOptions(ctx); err != nil {
		return nil, err
	}
	if err := p.readStages(); err != nil {
		return nil, err
	}
	target, err := p.target(p.in.Target)
	if err != nil {
		return nil, err
	}
	if err := p.link(); err != nil {
		return nil, err
	}
	if err := (&resolver{p, map[imageKey]*image{}}).resolve(ctx, target); err != nil {
		return nil, err
	}
	return target, p.dispatchAll(target)
}

// planner makes one plan.
type planner struct {
	*stageGraph
	*sourceSteps
	in       Input
	platform layer.Platform // of the image
	implicit bool           // platform is the default
	network  string
	proxy    []string
	epoch    *int64
	created  *time.Time // the epoch, for the history
	steps    []*StepInfo

	shownRemote map[*solve.Step]bool
}

func newPlanner(in Input) *planner {
	if in.BuildPlatform.OS == "" {
		in.BuildPlatform = layer.HostPlatform()
	}
	p := &planner{
		in: in, platform: in.Platform, proxy: proxyEnv(in.Args),
		sourceSteps: newSourceSteps(), shownRemote: map[*solve.Step]bool{},
	}
	if p.platform.OS == "" {
		p.platform, p.implicit = in.BuildPlatform, true
	}
	p.stageGraph = &stageGraph{scope: newScope(in, p.platform), byName: map[string]*stage{}}
	return p
}

func (p *planner) readOptions(ctx context.Context) error {
	if err := p.checkOptions(); err != nil {
		return err
	}
	if err := p.readGlobals(); err != nil {
		return err
	}
	var err error
	p.epoch, err = (&epochReader{p}).read(ctx)
	if p.epoch != nil {
		t := time.Unix(*p.epoch, 0).UTC()
		p.created = &t
	}
	return err
}

func (p *planner) checkOptions() error {
	for _, k := range slices.Sorted(maps.Keys(p.args)) {
		if !validText(k, p.args[k]) {
			return fmt.Errorf("build argument %.40q: not valid UTF-8", k)
		}
	}
	switch p.in.Network {
	case "", "default":
	case "none", "host":
		p.network = p.in.Network
	default:
		return fmt.Errorf("network %q: want default, none or host", p.in.Network)
	}
	return nil
}

// proxyEnv returns the proxy variables among the build arguments, each in upper
// and lower case. A lower-case argument takes precedence.
func proxyEnv(args map[string]string) []string {
	values := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(args)) {
		values[strings.ToUpper(k)] = args[k]
	}
	var out []string
	for _, name := range proxyNames() {
		if v := values[name]; v != "" {
			out = append(out, name+"="+v, strings.ToLower(name)+"="+v)
		}
	}
	return out
}

func proxyNames() []string {
	return []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
}

// plan returns the plan, after all instructions have been planned.
func (p *planner) plan(target *stage) (*Plan, error) {
	if err := p.lint.Err(); err != nil {
		return nil, p.file.At(err)
	}
	p.announce(target)
	p.layered(target)
	p.finish(target)
	out := &Plan{
		Config: target.config, Platform: p.resultPlatform(target), Epoch: p.epoch, Steps: p.steps,
		Warnings: slices.Concat(p.lint.Warnings(), p.file.Advice, p.unused(p.stages)),
	}
	if target.root != p.scratch {
		out.Root = target.root
	}
	if im := target.image; im != nil && im.linked != nil {
		out.Base = im.linked.Base
	} else if im != nil {
		out.Base = &im.image
	}
	needed := p.needed(target)
	for _, s := range p.stages {
		if !needed[s] {
			continue
		}
		if im := s.image; s.base == nil && im != nil && im.linked != nil && im.linked.Root != nil {
			out.Linked = append(out.Linked, im.linked.Root)
		}
		info := StageInfo{s.index, s.name, s.baseName, *s.platform, s.root, s.meta.Ranges}
		if s.base == nil && s.image != nil {
			info.Base = s.image.ref
		}
		out.Stages = append(out.Stages, info)
	}
	return out, nil
}

// resultPlatform returns the platform that names the image in the result: that of its config, with a
// version of the operating system that was requested, but not with a base image's own.
func (p *planner) resultPlatform(target *stage) layer.Platform {
	c := &target.config
	c.Config.Env = slices.DeleteFunc(c.Config.Env, func(env string) bool {
		name, _, _ := strings.Cut(env, "=")
		return slices.Contains(p.in.UnsetEnv, name)
	})
	named := layer.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
	if !p.implicit {
		named.OSVersion, named.OSFeatures = p.platform.OSVersion, p.platform.OSFeatures
	}
	return named.Normalized()
}

// finish applies the options that override the image's configuration.
func (p *planner) finish(target *stage) {
	c := &target.config
	if len(p.in.Labels) > 0 && c.Config.Labels == nil {
		c.Config.Labels = make(map[string]string, len(p.in.Labels))
	}
	maps.Copy(c.Config.Labels, p.in.Labels)
	have := layer.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant, OSVersion: c.OSVersion, OSFeatures: c.OSFeatures}
	if want := p.platform; !p.implicit {
		same := want.OS == have.OS && want.Architecture == have.Architecture
		have.OS, have.Architecture = want.OS, want.Architecture
		if want.Variant != "" || !same {
			have.Variant = want.Variant
		}
		if want.OSVersion != "" || !same {
			have.OSVersion = want.OSVersion
		}
		if want.OSFeatures != nil {
			have.OSFeatures = want.OSFeatures
		}
	}
	setPlatform(c, have.Normalized())
}
