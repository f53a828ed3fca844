package plan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/dockerfile"
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

// walk goes through all instructions of the stages that are needed, and gives
// the target.
func (p *planner) walk(ctx context.Context) (*stage, error) {
	if err := p.readOptions(ctx); err != nil {
		return nil, err
	}
	if err := p.readStages(); err != nil {
		return nil, err
	}
	target, err := p.target()
	if err != nil {
		return nil, err
	}
	if err := p.link(); err != nil {
		return nil, err
	}
	if err := p.resolve(ctx, target); err != nil {
		return nil, err
	}
	return target, p.dispatchAll(target)
}

// planner is what is known while a plan is made.
type planner struct {
	in       Input
	file     *dockerfile.File
	lint     *dockerfile.Lint
	lex      *dockerfile.Lexer
	platform layer.Platform // to build for
	implicit bool           // nobody asked for it
	args     map[string]string
	all      bool               // every stage is needed
	globals  env                // variables of FROM lines
	declared map[string]argInfo // the ARGs before the first FROM
	epoch    *int64
	created  *time.Time // the epoch, for the history
	proxy    []string
	network  string

	stages   []*stage // in order; images of COPY --from come last
	byName   map[string]*stage
	images   map[imageKey]*image
	contexts map[string]*solve.Step
	remotes  map[string]*solve.Step
	scratch  *solve.Step
	steps    []*StepInfo

	shownRemote map[*solve.Step]bool
}

func newPlanner(in Input) *planner {
	p := &planner{
		in: in, file: in.File, lint: in.File.Lint(), lex: in.File.Lexer(),
		args: maps.Clone(in.Args), declared: map[string]argInfo{},
		byName: map[string]*stage{}, images: map[imageKey]*image{}, contexts: map[string]*solve.Step{},
		remotes: map[string]*solve.Step{}, shownRemote: map[*solve.Step]bool{},
		platform: in.Platform, proxy: proxyEnv(in.Args),
	}
	if p.args == nil {
		p.args = map[string]string{}
	}
	p.scratch = &solve.Step{Op: encode("scratch", Scratch{})}
	if p.in.BuildPlatform.OS == "" {
		p.in.BuildPlatform = layer.HostPlatform()
	}
	if p.platform.OS == "" {
		p.platform, p.implicit = p.in.BuildPlatform, true
	}
	return p
}

func (p *planner) readOptions(ctx context.Context) error {
	if err := p.checkOptions(); err != nil {
		return err
	}
	if err := p.readGlobals(); err != nil {
		return err
	}
	return p.readEpoch(ctx)
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
	if on, err := strconv.ParseBool(p.args["BUILDKIT_MULTI_PLATFORM"]); err == nil && on && !p.in.MultiPlatform {
		return notYet("BUILDKIT_MULTI_PLATFORM: an image of one platform is never put into an index")
	}
	return nil
}

// readGlobals sets the variables of FROM lines: the predefined ones, and the
// ARGs before the first FROM.
func (p *planner) readGlobals() error {
	defaults := p.predefined()
	if g, _, err := p.globalArgs(defaults.clone(), nil); err == nil {
		p.lintDefaults(&g) // would it work without any --build-arg?
	}
	globals, declared, err := p.globalArgs(defaults, p.args)
	p.globals, p.declared = globals, declared
	return err
}

// predefined gives the arguments that exist without an ARG in FROM lines.
func (p *planner) predefined() env {
	b, t := p.in.BuildPlatform, p.platform
	target := p.in.Target
	if target == "" {
		target = p.file.Stages[len(p.file.Stages)-1].As
	}
	if target == "" {
		target = "default"
	}
	var e env
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", b.String()},
		{"BUILDOS", b.OS},
		{"BUILDOSVERSION", b.OSVersion},
		{"BUILDARCH", b.Architecture},
		{"BUILDVARIANT", b.Variant},
		{"TARGETPLATFORM", t.Full()},
		{"TARGETOS", t.OS},
		{"TARGETOSVERSION", t.OSVersion},
		{"TARGETARCH", t.Architecture},
		{"TARGETVARIANT", t.Variant},
		{"TARGETSTAGE", target},
	} {
		if v, ok := p.args[kv[0]]; ok {
			kv[1] = v
		}
		e.set(kv[0], kv[1])
	}
	return e
}

func (p *planner) globalArgs(e env, build map[string]string) (env, map[string]argInfo, error) {
	declared := map[string]argInfo{}
	for i := range p.file.Args {
		a := &p.file.Args[i]
		for _, kv := range a.Args {
			info := argInfo{doc: kv.Doc, ranges: a.Ranges}
			value, ok := build[kv.Key]
			if !ok && kv.Value != nil {
				w, err := p.lex.Word(*kv.Value, &e)
				if err != nil {
					return e, nil, p.file.At(err, a.Ranges...)
				}
				value, ok = w.Text, true
				info.uses = w.Set
				if slices.Contains(w.Set, kv.Key) {
					info.uses = append(info.uses, declared[kv.Key].uses...)
				}
			}
			if ok {
				e.set(kv.Key, value)
				info.value = value
			}
			declared[kv.Key] = info
		}
	}
	return e, declared, nil
}

// proxyEnv gives the variables for the proxies among the build arguments, in
// both spellings. A lower-case argument wins.
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

// unusedArgs warns of build arguments that nothing declares, in no stage.
func (p *planner) unusedArgs() []Warning {
	known, used := p.predefined(), map[string]bool{}
	for name := range p.declared {
		used[name] = true
	}
	for _, s := range p.stages {
		for _, c := range s.commands {
			if a, ok := c.Instruction.(*dockerfile.Arg); ok {
				for _, kv := range a.Args {
					used[kv.Key] = true
				}
			}
		}
	}
	var unused []string
	for _, k := range slices.Sorted(maps.Keys(p.args)) {
		_, predefined := known.Get(k)
		proxy := slices.Contains(proxyNames(), strings.ToUpper(k))
		if !used[k] && !predefined && !proxy && k != "SOURCE_DATE_EPOCH" && !strings.HasPrefix(k, "BUILDKIT_") {
			unused = append(unused, k)
		}
	}
	if unused == nil {
		return nil
	}
	return []Warning{{
		Rule: "UnusedBuildArg", Description: "A --build-arg should be declared by an ARG",
		Detail: fmt.Sprintf("One or more build-args %v were not consumed", unused),
	}}
}

// plan puts together what the instructions made of the target.
func (p *planner) plan(target *stage) (*Plan, error) {
	if err := p.lint.Err(); err != nil {
		return nil, p.file.At(err)
	}
	p.announce(target)
	p.layered(target)
	p.finish(target)
	out := &Plan{
		Config: target.config, Epoch: p.epoch, Steps: p.steps,
		Warnings: slices.Concat(p.lint.Warnings(), p.file.Advice, p.unusedArgs()),
	}
	if target.root != p.scratch {
		out.Root = target.root
	}
	if target.image != nil {
		out.Base = &target.image.image
	}
	needed := p.needed(target)
	for _, s := range p.stages {
		if !needed[s] {
			continue
		}
		info := StageInfo{s.index, s.name, s.baseName, *s.platform, s.root, s.meta.Ranges}
		if s.base == nil && s.image != nil {
			info.Base = s.image.ref
		}
		out.Stages = append(out.Stages, info)
	}
	return out, nil
}

// finish applies the options that have the last word on the configuration.
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
