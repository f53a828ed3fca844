package dockerfile

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Lint collects warnings, except those of rules that the Dockerfile skips with
// # check= at its top or above an instruction.
type Lint struct {
	l       *linter.Linter
	out     *[]Warning
	asError bool
}

func (f *File) newLint() (*Lint, error) {
	option, _, at, _ := parser.ParseDirective("check", f.Text)
	if f.check != nil {
		option, at = *f.check, nil
	}
	config, err := linter.ParseLintOptions(option)
	if err != nil {
		return nil, f.At(InBuildKit(errors.New("check options: "+plainly(err.Error())), "failed to parse check options: "+err.Error()), fromRanges(at)...)
	}
	l := &Lint{out: new([]Warning), asError: config.ReturnAsError}
	config.Warn = func(rule, description, url, detail string, at []parser.Range) {
		*l.out = append(*l.out, Warning{rule, description, url, detail, fromRanges(at)})
	}
	l.l = linter.New(config)
	return l, nil
}

// Lint returns a collector with the warnings of [Parse].
func (f *File) Lint() *Lint {
	l, err := f.newLint()
	if err != nil { // not reached: Parse has read the same options
		l = &Lint{out: new([]Warning)}
	}
	*l.out = slices.Clone(f.warnings)
	return l
}

// Warnings returns the collected warnings.
func (l *Lint) Warnings() []Warning { return *l.out }

// attach adds the collected warnings to an error.
func (l *Lint) attach(err error) error {
	var e *Error
	if errors.As(err, &e) {
		e.Warnings = *l.out
	}
	return err
}

// Err returns a [*LintError] if there are warnings and the Dockerfile makes them
// errors.
func (l *Lint) Err() error {
	if !l.asError || len(*l.out) == 0 {
		return nil
	}
	return &LintError{*l.out}
}

// LintError is the error of a Dockerfile with warnings that sets error=true.
type LintError struct{ Warnings []Warning }

func (e *LintError) Error() string {
	var rules []string
	for _, w := range e.Warnings {
		rules = append(rules, w.Rule)
	}
	slices.Sort(rules)
	return "lint violation found for rules: " + strings.Join(slices.Compact(rules), ", ")
}

// For returns the collector for an instruction, which skips the rules in the
// comment above it.
func (l *Lint) For(m *Meta) *Lint {
	if m.Comments == nil {
		return l
	}
	return &Lint{l.l.WithMergedConfigFromComments(m.Comments), l.out, l.asError}
}

func (l *Lint) run(rule linter.LinterRuleI, at []Range, detail string) {
	l.l.Run(rule, toRanges(at), detail)
}

// UndefinedVar warns of a variable that has no value.
func (l *Lint) UndefinedVar(m *Meta, name string, known []string) {
	r := &linter.RuleUndefinedVar
	l.run(r, m.Ranges, r.Format(name, Suggest(name, known)))
}

// UndefinedArgInFrom warns of a FROM with a variable that no ARG declares.
func (l *Lint) UndefinedArgInFrom(m *Meta, name string, known []string) {
	r := &linter.RuleUndefinedArgInFrom
	l.run(r, m.Ranges, r.Format(name, Suggest(name, known)))
}

// InvalidDefaultArg warns of a FROM that needs a --build-arg to be valid.
func (l *Lint) InvalidDefaultArg(m *Meta, base string) {
	r := &linter.RuleInvalidDefaultArgInFrom
	l.run(r, m.Ranges, r.Format(base))
}

// RedundantPlatform warns of --platform=$TARGETPLATFORM.
func (l *Lint) RedundantPlatform(m *Meta, written string) {
	r := &linter.RuleRedundantTargetPlatform
	l.run(r, m.Ranges, r.Format(written))
}

// ConstPlatform warns of a --platform without a variable.
func (l *Lint) ConstPlatform(m *Meta, written string) {
	r := &linter.RuleFromPlatformFlagConstDisallowed
	l.run(r, m.Ranges, r.Format(written))
}

// BasePlatform warns of a base image for another platform.
func (l *Lint) BasePlatform(m *Meta, image, want, have string) {
	r := &linter.RuleInvalidBaseImagePlatform
	l.run(r, m.Ranges, r.Format(image, want, have))
}

// RelativeWorkdir warns of a WORKDIR relative to that of the base image.
func (l *Lint) RelativeWorkdir(m *Meta, path string) {
	r := &linter.RuleWorkdirRelativePath
	l.run(r, m.Ranges, r.Format(path))
}

// LegacyPair warns of "ENV key value".
func (l *Lint) LegacyPair(m *Meta) {
	r := &linter.RuleLegacyKeyValueFormat
	l.run(r, m.Ranges, r.Format(m.Keyword))
}

// ShellForm warns of a CMD or ENTRYPOINT in shell form.
func (l *Lint) ShellForm(m *Meta) {
	r := &linter.RuleJSONArgsRecommended
	l.run(r, m.Ranges, r.Format(m.Keyword))
}

// Overridden warns of an instruction that a later one of the same kind replaces.
func (l *Lint) Overridden(m *Meta, earlier []Range) {
	r := &linter.RuleMultipleInstructionsDisallowed
	l.run(r, earlier, r.Format(m.Keyword))
}

// IgnoredCopy warns of a source that the ignore file excludes.
func (l *Lint) IgnoredCopy(m *Meta, command, path string) {
	r := &linter.RuleCopyIgnoredFile
	l.run(r, m.Ranges, r.Format(command, path))
}

// ExposeCase warns of a protocol that is not in lower case.
func (l *Lint) ExposeCase(m *Meta, port string) {
	r := &linter.RuleExposeProtoCasing
	l.run(r, m.Ranges, r.Format(port))
}

// ExposeFormat warns of an address or a host's port in EXPOSE.
func (l *Lint) ExposeFormat(m *Meta, port string) {
	r := &linter.RuleExposeInvalidFormat
	l.run(r, m.Ranges, r.Format(port))
}

// The words in BuildKit's linter. They match at the start or end of a name or
// between underscores.
var (
	secretName = regexp.MustCompile(`(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)`)
	publicName = regexp.MustCompile(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
)

// SecretName warns of an ARG or ENV with the name of a secret.
func (l *Lint) SecretName(m *Meta, instruction, name string) {
	if secretName.MatchString(name) && !publicName.MatchString(name) {
		r := &linter.RuleSecretsUsedInArgOrEnv
		l.run(r, m.Ranges, r.Format(instruction, name))
	}
}

func (l *Lint) stageNames(stages []instructions.Stage) {
	seen := map[string]bool{}
	for _, s := range stages {
		if s.Name == "context" || s.Name == "scratch" {
			r := &linter.RuleReservedStageName
			l.l.Run(r, s.Location, r.Format(s.Name))
		}
		if s.Name != "" && seen[s.Name] {
			r := &linter.RuleDuplicateStageName
			l.l.Run(r, s.Location, r.Format(s.Name))
		}
		seen[s.Name] = true
	}
}

// casing warns of keywords that are not in the case of the majority.
func (l *Lint) casing(stages []instructions.Stage) {
	lower, upper := 0, 0
	keywords(stages, func(word string, _ []parser.Range) {
		switch word {
		case strings.ToLower(word):
			lower++
		case strings.ToUpper(word):
			upper++
		}
	})
	change, name := strings.ToUpper, "uppercase"
	if lower > upper {
		change, name = strings.ToLower, "lowercase"
	}
	r := &linter.RuleConsistentInstructionCasing
	keywords(stages, func(word string, at []parser.Range) {
		if change(word) != word {
			l.l.Run(r, at, r.Format(word, name))
		}
	})
}

func keywords(stages []instructions.Stage, f func(string, []parser.Range)) {
	for _, s := range stages {
		f(s.OrigCmd, s.Location)
		for _, c := range s.Commands {
			f(c.Name(), c.Location())
		}
	}
}
