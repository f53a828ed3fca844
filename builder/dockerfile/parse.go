package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Parse parses a Dockerfile. Errors are of type *[Error] and contain name.
func Parse(name string, text []byte) (*File, error) { return ParseWith(name, text, Options{}) }

// Options replace directives of a Dockerfile.
type Options struct {
	Check  *string // replaces # check=
	Syntax *string // replaces # syntax=
}

// ParseWith is like [Parse], with options.
func ParseWith(name string, text []byte, o Options) (*File, error) {
	f := &File{Name: name, Text: text, check: o.Check}
	if len(text) == 0 {
		return nil, f.At(errors.New("the Dockerfile cannot be empty"))
	}
	if err := f.readSyntax(o.Syntax); err != nil {
		return nil, err
	}
	lint, err := f.newLint()
	if err != nil {
		return nil, err
	}
	if err := f.parse(lint); err != nil {
		return nil, lint.attach(err)
	}
	f.warnings = *lint.out
	return f, nil
}

func (f *File) parse(lint *Lint) error {
	ast, err := parser.Parse(bytes.NewReader(f.Text))
	if err != nil {
		return f.parseError(err)
	}
	f.Escape = ast.EscapeToken
	lint.emptyContinuations(ast.Warnings)
	stages, args, err := instructions.Parse(ast.AST, lint.l)
	if err != nil {
		return f.parseError(err)
	}
	if len(stages) == 0 {
		return f.At(InBuildKit(errors.New("dockerfile contains no stages to build: it has no FROM"), "dockerfile contains no stages to build"))
	}
	lint.stageNames(stages)
	lint.casing(stages)
	return f.convert(stages, args)
}

// ParseTrigger parses the trigger of an ONBUILD in a base image. Its position is
// that of the FROM, from.
func (f *File) ParseTrigger(text string, from []Range) (Instruction, error) {
	ast, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, f.At(fmt.Errorf("ONBUILD trigger %q of the base image: %w", clip(text), err), from...)
	}
	if len(ast.AST.Children) != 1 {
		return nil, f.At(errors.New("onbuild trigger should be a single expression"), from...)
	}
	c, err := instructions.ParseCommand(ast.AST.Children[0])
	if err != nil {
		return nil, f.At(fmt.Errorf("ONBUILD trigger %q of the base image: %w", clip(text), errors.New(message(err, text))), from...)
	}
	i, err := convert(c)
	if err != nil {
		return nil, f.At(err, from...)
	}
	i.Info().Ranges = from
	return i, nil
}

func (f *File) convert(stages []instructions.Stage, args []instructions.ArgCommand) error {
	for i := range args {
		a, err := convert(&args[i])
		if err != nil {
			return f.At(err)
		}
		f.Args = append(f.Args, *a.(*Arg))
	}
	for _, s := range stages {
		st := Stage{
			Meta: Meta{
				Keyword: s.OrigCmd, Source: s.SourceCode,
				Ranges: fromRanges(s.Location), Comments: s.Comments,
			},
			Base: s.BaseName, As: s.Name, Platform: s.Platform, Doc: s.DocComment,
			Instructions: make([]Instruction, len(s.Commands)),
		}
		for i, c := range s.Commands {
			var err error
			if st.Instructions[i], err = convert(c); err != nil {
				return f.At(err, fromRanges(c.Location())...)
			}
		}
		f.Stages = append(f.Stages, st)
	}
	return nil
}

// fromRanges joins BuildKit's ranges, which have one line each, if they are
// adjacent.
func fromRanges(rr []parser.Range) []Range {
	var out []Range
	for _, r := range rr {
		first, last := r.Start.Line, max(r.Start.Line, r.End.Line)
		if n := len(out); n > 0 && first == out[n-1].Last+1 {
			out[n-1].Last = last
			continue
		}
		out = append(out, Range{first, last})
	}
	return out
}

func toRanges(rr []Range) []parser.Range {
	out := make([]parser.Range, len(rr))
	for i, r := range rr {
		out[i] = parser.Range{Start: parser.Position{Line: r.First}, End: parser.Position{Line: r.Last}}
	}
	return out
}

func clip(s string) string {
	line, _, more := strings.Cut(s, "\n")
	if more || len(line) > 80 {
		return line[:min(len(line), 80)] + "…"
	}
	return line
}

// emptyContinuations adds the warnings of the parser itself, which are all of one
// kind.
func (l *Lint) emptyContinuations(ww []parser.Warning) {
	rule := &linter.RuleNoEmptyContinuation
	for _, w := range ww {
		if w.URL == rule.URL && w.Location != nil {
			l.l.Run(rule, []parser.Range{*w.Location}, rule.Format())
		}
	}
}
