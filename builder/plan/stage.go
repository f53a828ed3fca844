package plan

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

const scratchName = "scratch"

// stage is a stage of the Dockerfile, or an image that --from names, and the
// state that its instructions change.
type stage struct {
	index    int // in the Dockerfile; -1 for an image
	name     string
	meta     *dockerfile.Meta // its FROM, or the COPY or RUN that names the image
	baseName string
	base     *stage // if it is FROM another
	platform *layer.Platform
	written  string // its --platform
	commands []command
	deps     []dep

	instead *replacement // what a --build-context puts in its place, or in that of its base
	onbuild []string     // triggers of an image in the stage's place

	resolved, triggered, done bool

	image     *image // what it is FROM, in the end; nil: scratch
	config    dockerspec.DockerOCIImage
	root      *solve.Step
	env       env
	args      []dockerfile.ArgPair // ARGs so far, and those of base
	absolute  bool                 // a WORKDIR was set
	announced bool                 // its FROM is among the steps

	cmd, entrypoint, healthcheck []dockerfile.Range // of the last one here

	step, total int // for the names of steps

	outline outline
}

// command is an instruction and the stages that it takes files from.
type command struct {
	dockerfile.Instruction
	from    *stage   // of COPY --from
	mounts  []*stage // of each RUN --mount; nil: it names none
	onbuild bool
}

// dep is a stage that another needs, and the instruction that says so.
type dep struct {
	on   *stage
	meta *dockerfile.Meta
}

// readStages expands the FROM lines.
func (p *planner) readStages() error {
	for i := range p.file.Stages {
		src := &p.file.Stages[i]
		s, err := p.newStage(i, src)
		if err != nil {
			return p.file.At(err, src.Ranges...)
		}
		p.add(s)
		if src.As != "" {
			p.byName[src.As] = s
		}
		if p.replaceStage(s, src) {
			continue
		}
		if s.base == nil && s.baseName != scratchName {
			s.total = 1
		}
		for _, in := range src.Instructions {
			s.commands = append(s.commands, command{Instruction: in})
			switch in.(type) {
			case *dockerfile.Add, *dockerfile.Copy, *dockerfile.Run, *dockerfile.Workdir:
				s.total++
			}
		}
	}
	return nil
}

func (p *planner) newStage(i int, src *dockerfile.Stage) (*stage, error) {
	lint := p.lint.For(&src.Meta)
	base, err := p.lex.Word(src.Base, &p.globals)
	p.lintMissing(lint, &src.Meta, base.Missing)
	if err != nil {
		return nil, err
	}
	if base.Text == "" {
		return nil, blankBase(src.Base, append(base.Missing, base.Set...))
	}
	s := &stage{index: i, name: src.As, meta: &src.Meta, baseName: base.Text, written: src.Platform}
	s.outline.use(base.Set)
	if s.name == "" {
		s.name = fmt.Sprintf("stage-%d", i)
	}
	if src.Platform == "" {
		return s, nil
	}
	return s, p.readPlatform(s, src, lint)
}

// blankBase says how the first of the variables in a FROM gets a value.
func blankBase(written string, vars []string) error {
	if len(vars) > 0 {
		return fmt.Errorf("base name (%s) should not be blank: write ARG %s=IMAGE above the first FROM, or ARG %s and build with --build-arg %s=IMAGE",
			written, vars[0], vars[0], vars[0])
	}
	return fmt.Errorf("base name (%s) should not be blank", written)
}

func (p *planner) readPlatform(s *stage, src *dockerfile.Stage, lint *dockerfile.Lint) error {
	w, err := p.lex.Word(src.Platform, &p.globals)
	p.lintMissing(lint, &src.Meta, w.Missing)
	p.lintPlatform(lint, src, w)
	s.outline.use(w.Set)
	if err != nil {
		return fmt.Errorf("--platform=%s: %w", src.Platform, err)
	}
	guess := func(err error) error {
		for _, name := range w.Missing {
			if dockerfile.Suggest(name, p.globals.Keys()) != "" {
				return dockerfile.DidYouMean(err, name, p.globals.Keys())
			}
		}
		return err
	}
	if w.Text == "" {
		return guess(fmt.Errorf("empty platform value from expression %s", src.Platform))
	}
	platform, err := layer.ParsePlatform(w.Text)
	if err != nil {
		return guess(fmt.Errorf("--platform=%s: %w", src.Platform, err))
	}
	s.platform = &platform
	return nil
}

// add makes a stage known. Its name counts for the stages after it only.
func (p *planner) add(s *stage) {
	p.stages = append(p.stages, s)
	s.base = p.byName[s.baseName]
}

// target finds the stage to build, by name or by index.
func (p *planner) target() (*stage, error) {
	n := len(p.file.Stages)
	if p.in.Target == "" {
		return p.stages[n-1], nil
	}
	if s, ok := p.byName[strings.ToLower(p.in.Target)]; ok {
		return s, nil
	}
	if i, err := strconv.Atoi(p.in.Target); err == nil && i >= 0 && i < n {
		return p.stages[i], nil
	}
	err := fmt.Errorf("target stage %q could not be found", p.in.Target)
	if dockerfile.Suggest(p.in.Target, p.names()) == "" {
		return nil, p.file.At(fmt.Errorf("%w: cairn build --call=targets lists them", err))
	}
	return nil, p.file.At(dockerfile.DidYouMean(err, p.in.Target, p.names()))
}

func (p *planner) names() []string {
	var names []string
	for _, s := range p.stages {
		if s.name != "" {
			names = append(names, s.name)
		}
	}
	return names
}

// link finds what each stage copies from, and refuses circles.
func (p *planner) link() error {
	for _, s := range p.stages {
		for i := range s.commands {
			if err := p.linkCommand(s, &s.commands[i]); err != nil {
				return p.file.At(err, s.commands[i].Info().Ranges...)
			}
		}
	}
	if err := p.checkCircles(); err != nil {
		return err
	}
	// BuildKit takes what a --mount is from for one more stage, even nothing.
	if len(p.stages) == 1 && !slices.ContainsFunc(p.stages[0].commands, command.mountsAny) {
		p.stages[0].name = ""
	}
	return nil
}

func (p *planner) linkCommand(s *stage, c *command) error {
	switch in := c.Instruction.(type) {
	case *dockerfile.Copy:
		if in.From == "" {
			return nil
		}
		from, err := p.copyFrom(in)
		if err != nil {
			return err
		}
		c.from = from
		s.deps = append(s.deps, dep{from, in.Info()})
	case *dockerfile.Run:
		c.mounts = make([]*stage, len(in.Mounts))
		for i, m := range in.Mounts {
			if m.From != "" {
				c.mounts[i] = p.from(m.From, in.Info())
				s.deps = append(s.deps, dep{c.mounts[i], in.Info()})
			}
		}
	}
	return nil
}

func (c command) mountsAny() bool { return len(c.mounts) > 0 }

// brings tells whether the command takes files from stages or images.
func (c *command) brings() bool {
	return c.from != nil || slices.ContainsFunc(c.mounts, func(s *stage) bool { return s != nil })
}

func (p *planner) copyFrom(c *dockerfile.Copy) (*stage, error) {
	var none env
	w, err := p.lex.Word(c.From, &none)
	if err != nil {
		return nil, err
	}
	if w.Text != c.From {
		return nil, errors.New("variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
	}
	if i, err := strconv.Atoi(c.From); err == nil {
		if i < 0 || i >= len(p.stages) {
			return nil, fmt.Errorf("invalid stage index %d", i)
		}
		return p.stages[i], nil
	}
	return p.from(c.From, c.Info()), nil
}

// from gives what --from names: a stage or, taken for a stage of its own, an
// image. m is the instruction that names it.
func (p *planner) from(name string, m *dockerfile.Meta) *stage {
	if s, ok := p.byName[strings.ToLower(name)]; ok {
		return s
	}
	s := &stage{index: -1, meta: m, baseName: name}
	p.add(s)
	return s
}

// checkCircles looks for stages that copy from each other. (What a stage is FROM
// comes before it, and so does what it can copy from: see [planner.copy].)
func (p *planner) checkCircles() error {
	visited, path := map[*stage]bool{}, map[*stage]bool{}
	var visit func(s *stage, at []dockerfile.Range) []dockerfile.Range
	visit = func(s *stage, at []dockerfile.Range) []dockerfile.Range {
		if visited[s] {
			return nil
		}
		visited[s], path[s] = true, true
		for _, d := range s.deps {
			next := append(at[:len(at):len(at)], d.meta.Ranges...)
			if path[d.on] {
				return next
			}
			if found := visit(d.on, next); found != nil {
				return found
			}
		}
		delete(path, s)
		return nil
	}
	for _, s := range p.stages {
		if at := visit(s, nil); at != nil {
			return p.file.At(fmt.Errorf("circular dependency detected on stage: %s", s.name), at...)
		}
	}
	return nil
}

// needs gives what a stage is FROM and what it copies from.
func (s *stage) needs() []dep {
	if s.base == nil {
		return s.deps
	}
	return append([]dep{{s.base, s.meta}}, s.deps...)
}

// needed gives the stages that are planned.
func (p *planner) needed(target *stage) map[*stage]bool {
	if !p.all {
		return reachable(target)
	}
	set := map[*stage]bool{}
	for _, s := range p.stages {
		set[s] = true
	}
	return set
}

func reachable(target *stage) map[*stage]bool {
	set := map[*stage]bool{}
	todo := []*stage{target}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if set[s] {
			continue
		}
		set[s] = true
		for _, d := range s.needs() {
			todo = append(todo, d.on)
		}
	}
	return set
}

// normalize gives an image's reference in full, as docker does.
func normalize(name string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", name, err)
	}
	return reference.TagNameOnly(ref).String(), nil
}
