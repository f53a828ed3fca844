package plan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

const scratchName = "scratch"

// stage is a stage of the Dockerfile, or an image that --from names, with the state
// that its instructions change.
type stage struct {
	index    int // in the Dockerfile; -1 for an image
	name     string
	meta     *dockerfile.Meta // its FROM, or the COPY or RUN that names the image
	baseName string
	base     *stage // the stage that it is FROM; nil: it is FROM something else
	platform *layer.Platform
	written  string   // its --platform
	missing  []string // variables of its FROM that are not set
	commands []command
	deps     []dep

	instead *replacement // the --build-context that replaces it or its base
	onbuild []string     // triggers of an image that replaces the stage

	resolved, triggered, done bool

	image     *image // at the bottom of its bases; nil: scratch or files
	config    dockerspec.DockerOCIImage
	root      *solve.Step
	env       env
	args      []dockerfile.ArgPair // declared so far, and those of base
	absolute  bool                 // a WORKDIR was set
	announced bool                 // its FROM is in the list of steps

	cmd, entrypoint, healthcheck []dockerfile.Range // of the last such instruction

	step, total int // for the names of steps

	outline outline
}

// command is an instruction and the stages that it uses files of.
type command struct {
	dockerfile.Instruction
	from    *stage   // of COPY --from
	mounts  []*stage // of each RUN --mount; nil for a mount without from
	onbuild bool
}

// dep is a stage that another one needs, and the instruction that names it.
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
	s := &stage{index: i, name: src.As, meta: &src.Meta, baseName: base.Text, written: src.Platform, missing: base.Missing}
	s.outline.use(base.Set)
	if s.name == "" {
		s.name = fmt.Sprintf("stage-%d", i)
	}
	if src.Platform == "" {
		return s, nil
	}
	return s, p.readPlatform(s, src, lint)
}

// blankBase returns the error for a FROM that expands to nothing. It shows how to
// set the first variable.
func blankBase(written string, vars []string) error {
	text := fmt.Sprintf("base name (%s) should not be blank", written)
	if len(vars) > 0 {
		err := fmt.Errorf("base name (%s) should not be blank: write ARG %s=IMAGE above the first FROM, or ARG %s and build with --build-arg %s=IMAGE",
			written, vars[0], vars[0], vars[0])
		return dockerfile.InBuildKit(err, text)
	}
	return errors.New(text)
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
		text := fmt.Sprintf("failed to parse platform %s: %q: cannot parse platform specifier: invalid argument", w.Text, w.Text)
		return guess(dockerfile.InBuildKit(fmt.Errorf("--platform=%s: %w", src.Platform, err), text))
	}
	s.platform = &platform
	return nil
}

func (c command) mountsAny() bool { return len(c.mounts) > 0 }

// brings reports whether the command uses files of stages or images.
func (c *command) brings() bool {
	return c.from != nil || slices.ContainsFunc(c.mounts, func(s *stage) bool { return s != nil })
}

// needs returns the base of a stage and the stages that it uses files of.
func (s *stage) needs() []dep {
	if s.base == nil {
		return s.deps
	}
	return append([]dep{{s.base, s.meta}}, s.deps...)
}
